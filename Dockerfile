# The gateway in a container, with the places of the Go program's image, so that its compose files keep working:
#
#   /CLIProxyAPI/config.yaml   the configuration, mounted as a single file
#   /root/.cli-proxy-api       what `auth-dir: ~/.cli-proxy-api` means in here; also for a first configuration
#   /CLIProxyAPI/logs          records of requests and log files
#
# It runs as user 1000 and not as root; that user's home is /root for the sake of the second line. What is mounted must
# be readable by 1000 (README.md, Docker). Everything is installed from wheels: no compiler, no second stage.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONPATH=/opt/cli-proxy-api

COPY requirements/runtime.txt /opt/cli-proxy-api/requirements.txt
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
    --only-binary=:all: --require-hashes -r /opt/cli-proxy-api/requirements.txt

COPY src/cliproxy /opt/cli-proxy-api/cliproxy
COPY LICENSE config.example.yaml /opt/cli-proxy-api/
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/cli-proxy-api/cliproxy \
    && groupadd --gid 1000 cliproxy \
    && useradd --uid 1000 --gid 1000 --home-dir /root --no-create-home cliproxy \
    && mkdir -p -m 0700 /root/.cli-proxy-api \
    && mkdir -p /CLIProxyAPI/logs \
    && chown -R 1000:1000 /root/.cli-proxy-api /CLIProxyAPI \
    && chmod 0755 /root

ENV HOME=/root
WORKDIR /CLIProxyAPI
USER 1000:1000

# The gateway, and the callbacks of the logins to come: Gemini, Codex, Claude.
EXPOSE 8317 8085 1455 54545

# The file's `host` is for the machine it was written on; in here only 0.0.0.0 can be published. Without `api-keys` in
# the file this is refused, as everywhere.
ENTRYPOINT ["python", "-m", "cliproxy"]
CMD ["serve", "--host", "0.0.0.0"]
