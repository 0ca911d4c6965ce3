"""What tells one version of a profile from another."""

import hashlib

from calibration.profile import Profile
from calibration.profile_json import dump_profile


def profile_sha256(profile: Profile) -> str:
    """Return the SHA-256 of a profile's canonical JSON, which is its file where `write_profile` wrote it."""
    return hashlib.sha256(dump_profile(profile).encode()).hexdigest()


def version_of(profile: Profile) -> int:
    """Return the profile's version; 1 for one that supersedes nothing."""
    return int(profile.evidence.get("version", {}).get("number", 1))
