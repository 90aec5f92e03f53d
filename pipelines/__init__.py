"""The stages, each a process of its own."""

import sys

if sys.argv[0] == "-m":  # `python -m pipelines.<stage>`, whose imports take seconds; not `import`
    from rhs.signals import end_at_once

    end_at_once()
