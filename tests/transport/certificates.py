"""Certificates of our own, made with the `openssl` command."""

import ssl
import subprocess
from pathlib import Path

# What Python 3.13 and later insist on (`VERIFY_X509_STRICT`).
_CA_USE = "-addext keyUsage=critical,keyCertSign,cRLSign"
_KEY_IDS = "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"


class Authority:
    """A certificate authority of our own, and what it has signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._openssl(f"req -x509 {_KEY} -keyout ca.key -out ca.pem -days 2 -subj /CN=ours {_CA_USE}")

    @property
    def client(self) -> ssl.SSLContext:
        """Trusts this authority and no other."""
        return ssl.create_default_context(cafile=str(self._folder / "ca.pem"))

    def server(self, *names: str) -> ssl.SSLContext:
        """Shows a certificate for `names` (`DNS:x` or `IP:y`)."""
        stem = "-".join(names).replace(":", "-")
        key, request, signed = (self._folder / f"{stem}.{kind}" for kind in ("key", "csr", "pem"))
        if not signed.exists():
            (self._folder / "names.cnf").write_text(f"subjectAltName={','.join(names)}\n{_KEY_IDS}")
            self._openssl(f"req -new {_KEY} -keyout {key.name} -out {request.name} -subj /CN=server")
            sign = "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names.cnf"
            self._openssl(f"{sign} -in {request.name} -out {signed.name}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(signed, key)
        return context

    def _openssl(self, words: str) -> None:
        subprocess.run(["openssl", *words.split()], cwd=self._folder, check=True, capture_output=True)
