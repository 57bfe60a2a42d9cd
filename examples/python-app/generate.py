"""Prints the primes below a thousand, and keeps them in a directory for the next time."""

import pathlib
import sys

kept = pathlib.Path(sys.argv[1]) / "primes"
if not kept.exists():
    primes = [n for n in range(2, 1000) if all(n % d for d in range(2, int(n**0.5) + 1))]
    kept.write_text("\n".join(map(str, primes)) + "\n")
print(kept.read_text(), end="")
