"""A local Slack workspace for trying and testing the bot without a Slack account; it stands apart from the bot."""

from bot.sandbox.sandbox import Sandbox
from bot.sandbox.seed import Channel, Person

__all__ = ["Channel", "Person", "Sandbox"]
