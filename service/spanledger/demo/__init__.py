"""The demo: a scripted incident against simulated providers, played live and reckoned up."""
