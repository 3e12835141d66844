-- Version 6: whose a provider's file is, when a request names it by the provider's own id.
CREATE INDEX kept_by_provider ON kept (provider_id);
