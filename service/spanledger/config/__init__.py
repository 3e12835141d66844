"""The configuration: one frozen `Config`, read and checked before anything runs."""

from spanledger.config.budgets import SUBJECTS, BudgetEntry
from spanledger.config.fields import nearest
from spanledger.config.load import (
    DEFAULT_CONFIG,
    load_budgets,
    load_config,
    parse_config,
    validate_budget,
)
from spanledger.config.sections import (
    DEFAULT_LEDGER_URL,
    Config,
    Fallbacks,
    GatewaySettings,
    LedgerSettings,
    LiteLLMParams,
    ModelEntry,
    ModelInfo,
    RouterSettings,
    TelemetrySettings,
)

__all__ = [
    "DEFAULT_CONFIG",
    "DEFAULT_LEDGER_URL",
    "SUBJECTS",
    "BudgetEntry",
    "Config",
    "Fallbacks",
    "GatewaySettings",
    "LedgerSettings",
    "LiteLLMParams",
    "ModelEntry",
    "ModelInfo",
    "RouterSettings",
    "TelemetrySettings",
    "load_budgets",
    "load_config",
    "nearest",
    "parse_config",
    "validate_budget",
]
