"""Settings of all property tests here: no deadline for a single example, since small machines are slow at times."""

from hypothesis import settings

settings.register_profile("tinyserver", deadline=None)
settings.load_profile("tinyserver")
