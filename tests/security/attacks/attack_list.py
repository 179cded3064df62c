"""attacks.txt as values; the format is described there."""

import dataclasses
import os
import re

FILE = os.path.join(os.path.dirname(os.path.realpath(__file__)), 'attacks.txt')
WALLS = ('none', 'wall1', 'wall2', 'both')
ROWS = 58


@dataclasses.dataclass
class Attack:
    name: str
    values: dict  # wall: what has to come of it
    flags: list = dataclasses.field(default_factory=list)
    start: str = ''
    only: str = ''

    def is_run(self, wall):
        return self.values[wall] != 'escape' and not self.values[wall].startswith('not tried')


@dataclasses.dataclass
class Row:
    number: int
    title: str
    attacks: list = dataclasses.field(default_factory=list)
    escapes: dict = dataclasses.field(default_factory=dict)  # name: what has to come of it
    tests: list = dataclasses.field(default_factory=list)
    note: str = ''
    absent: str = ''


def check_value(value, wall):
    known = value in ('blocked', 'open', 'escape') or re.match('(contained|open|not tried): .', value)
    assert known, value
    assert wall == 'none' or not value.startswith('not tried'), f'{wall}: {value}'
    assert wall != 'both' or not value.startswith(('open', 'escape')), f'with both walls: {value}'
    assert wall == 'wall2' or value != 'escape', f'{wall}: {value}'


def add_line(rows, line):
    word, _, rest = line.strip().partition(' ')
    if word == 'row':
        number, title = rest.split(' ', 1)
        rows.append(Row(int(number), title))
        return
    row = rows[-1]
    if word == 'attack':
        name, values = rest.split(': ', 1)
        values = dict(zip(WALLS, (value.strip() for value in values.split('|')), strict=True))
        for wall, value in values.items():
            check_value(value, wall)
        row.attacks.append(Attack(name, values))
    elif word == 'flags':
        row.attacks[-1].flags = rest.split()
    elif word in ('start', 'only'):
        setattr(row.attacks[-1], word, rest)
    elif word == 'escape':
        name, value = rest.split(': ', 1)
        check_value(value, 'both')
        row.escapes[name] = value
    elif word == 'tests':
        row.tests += rest.split()
    elif word in ('note', 'absent'):
        setattr(row, word, rest)
    else:
        raise AssertionError(f'{FILE}: {line}')


def check_row(row):
    shown = row.attacks or row.escapes or row.tests
    assert bool(shown) != bool(row.absent), f'row {row.number} has to be shown or to be absent'
    for attack in row.attacks:
        assert attack.values['wall2'] != 'escape' or row.escapes, f'row {row.number}: no escape'


def read():
    rows = []
    with open(FILE, encoding='utf-8') as lines:
        for line in lines:
            if line.strip() and not line.startswith('#'):
                add_line(rows, line)
    assert [row.number for row in rows] == list(range(1, ROWS + 1)), 'a row is missing'
    for row in rows:
        check_row(row)
    return rows
