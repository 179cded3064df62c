"""A loop in pure Python: integer arithmetic, a comparison, a list element. argv[1]: iterations."""
import sys


def loop(iterations):
    value, total, seen = 1, 0, [0] * 16
    for i in range(iterations):
        value = (value * 1103515245 + i) & 0x7FFFFFFF
        if value & 1:
            total += value >> 3
        seen[value & 15] += 1
    return total, seen


print(loop(int(sys.argv[1])))
