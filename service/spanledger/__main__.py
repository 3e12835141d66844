"""`python -m spanledger`."""

from spanledger.cli import main

main()
