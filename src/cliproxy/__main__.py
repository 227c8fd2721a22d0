"""`python -m cliproxy`."""

from cliproxy.cli.main import main

main()
