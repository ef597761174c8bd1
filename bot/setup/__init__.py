"""Setting the bot up: the configuration file to begin with, and what is right and wrong with an installation."""
