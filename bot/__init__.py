"""The promotion desk in Slack: what people type, press and are shown."""
