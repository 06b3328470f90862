"""The controlled world: a synthetic benchmark whose true states are known, and the judge that reads its texts by rule."""
