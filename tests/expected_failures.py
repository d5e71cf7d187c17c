"""Cases that are known to fail, and how: printed name (fnmatch) -> pattern of the message.

A case listed here must fail with a message that matches, in every way in which it is run; once it
passes, the entry has expired and the test fails until it is removed.
"""

EXPECTED: dict[str, str] = {}
