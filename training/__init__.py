"""Learn: measure the bot on cases with known answers."""
