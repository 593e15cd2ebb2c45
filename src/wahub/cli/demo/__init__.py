"""What `wahub demo` does: a whole round trip on this machine, by public interfaces only.

It starts the sandbox and the gateway as a person would, with temporary data on free ports, and drives them through the
gateway's HTTP API and the sandbox's control API. It imports nothing of either, so what it shows is what callers get.

    screen.py     what is printed: numbered steps with their time, the QR code, what to try next
    children.py   the two commands as child processes, which end when the demo ends, however it ends
    receiver.py   a webhook receiver that checks signatures
    story.py      the steps
"""

from __future__ import annotations

from wahub.cli.demo.story import run_demo

__all__ = ["run_demo"]
