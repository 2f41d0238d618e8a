"""Training and scoring on distilled sets. Nothing here knows a method: all it sees is a distilled-set file."""
