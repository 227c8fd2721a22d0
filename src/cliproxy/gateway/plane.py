"""What the Management API works on, in one place; `app.py` puts it together."""

from __future__ import annotations

from msgspec import Struct

from cliproxy.gateway.accounts import Accounts
from cliproxy.gateway.desk import ConfigDesk
from cliproxy.gateway.gate import Gate
from cliproxy.gateway.logins import LoginDesk
from cliproxy.gateway.runtime import Runtime
from cliproxy.stores.app_log import AppLog
from cliproxy.stores.auth_files import AuthFiles
from cliproxy.stores.request_logs import RequestLogs


class Logs(Struct, frozen=True, eq=False):
    """`app` is the program's own log, `requests` are the records of requests."""

    app: AppLog
    requests: RequestLogs


class Plane:
    def __init__(
        self,
        runtime: Runtime,
        desk: ConfigDesk,
        gate: Gate,
        logs: Logs,
        auth_files: AuthFiles,
        accounts: Accounts,
        logins: LoginDesk,
    ) -> None:
        self.runtime = runtime
        self.desk = desk
        self.gate = gate
        self.logs = logs
        self.auth_files = auth_files
        self.accounts = accounts
        self.logins = logins
