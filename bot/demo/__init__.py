"""The platform around the bot, played small: assignment, event ingestion, offline replay and a serving back end."""
