"""The only package that touches SQLAlchemy Core's private names; one contract test for each.

Add a name to the file of its subject as an alias or a one-line function, and its test to a
`tests/architecture/test_corelink*.py`. Everybody says `corelink.name`.
"""

from sojourn.corelink.asyncs import *
from sojourn.corelink.engines import *
from sojourn.corelink.pooling import *
from sojourn.corelink.results import *
from sojourn.corelink.seeing import *
from sojourn.corelink.statements import *
