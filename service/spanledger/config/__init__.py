"""The configuration: one frozen `Config`, read and validated before anything runs."""

from spanledger.config.budgets import BudgetEntry, budget_of
from spanledger.config.fields import nearest
from spanledger.config.load import (
    Draft,
    draft_config,
    load_aside,
    load_budgets,
    load_config,
    matches,
    parse_config,
    served_by,
    validate_budget,
)
from spanledger.config.notices import NoticeSettings
from spanledger.config.pricing import PricingSettings
from spanledger.config.reading import DEFAULT_CONFIG, read_yaml
from spanledger.config.routing import Fallbacks
from spanledger.config.sections import (
    DEFAULT_LEDGER_URL,
    Config,
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
    "BudgetEntry",
    "Config",
    "Draft",
    "Fallbacks",
    "GatewaySettings",
    "LedgerSettings",
    "LiteLLMParams",
    "ModelEntry",
    "ModelInfo",
    "NoticeSettings",
    "PricingSettings",
    "RouterSettings",
    "TelemetrySettings",
    "budget_of",
    "draft_config",
    "load_aside",
    "load_budgets",
    "load_config",
    "matches",
    "nearest",
    "parse_config",
    "read_yaml",
    "served_by",
    "validate_budget",
]
