"""Notices on budgets: steps of the limit, forecasts and renewals, by webhook, Slack or mail.

One process of a ledger finds them (`watch`) and sends them (`courier`); what it must not forget is in the
ledger (`ledger/notices.py`). Nothing here is on the path of a request.
"""
