"""The promotion desk without Slack: what may happen to a model, and the durable record of what did."""
