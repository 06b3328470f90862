"""From platforms and files of one's own to examples: collecting, preparing."""
