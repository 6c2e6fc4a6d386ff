"""Initial values of signals by width, and words made of lanes."""

from myhdl import intbv, modbv


def signed(bits):
    """A two's complement value of ``bits``."""
    return intbv(0, min=-(1 << (bits - 1)), max=1 << (bits - 1))


def unsigned(bits):
    """An unsigned value of ``bits``."""
    return intbv(0)[bits:]


def wrapping(bits):
    """A two's complement value of ``bits`` that wraps around."""
    return modbv(0, min=-(1 << (bits - 1)), max=1 << (bits - 1))


def counter(bits):
    """An unsigned value of ``bits`` that wraps around."""
    return modbv(0)[bits:]


def join(lanes, concatenate):
    """One word of ``lanes``, the first in the lowest bits."""
    return lanes[0] if len(lanes) == 1 else concatenate(*reversed(lanes))
