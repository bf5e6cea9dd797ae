# The flush's halves that are functions only; this file lets other kernel modules cimport their types.
from sojourn.kernel.layout cimport Layout
from sojourn.kernel.state cimport InstanceState
