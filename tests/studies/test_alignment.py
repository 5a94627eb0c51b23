"""The eight cells of the alignment study: nothing but the rows differs between them."""

from dataclasses import replace
from itertools import combinations

from slimlib.data.micro.world import OVERLAPS
from slimlib.data.sources import DATASETS, WORLD
from slimlib.studies.alignment import CELLS, FACTORS
from slimlib.studies.get import get_study


def test_the_cells_are_all_combinations_of_what_the_world_can_rehearse():
    assert FACTORS == tuple(OVERLAPS)
    every = {on for size in range(4) for on in combinations(FACTORS, size)}
    assert set(CELLS.values()) == every and len(CELLS) == 8
    assert CELLS["plain"] == () and CELLS["maths-facts"] == ("maths", "facts")


def test_cells_differ_in_their_rows_alone():
    base, *cells = get_study("alignment").arms
    assert not base.trains and [arm.name for arm in cells] == list(CELLS)
    plain = cells[0]
    for arm in cells:
        assert arm.compared_with == base.name and arm.evaluate == base.evaluate
        own = {"name": arm.name, "label": arm.label}
        assert arm == replace(plain, **own, data=replace(plain.data, dataset=arm.data.dataset))


def test_each_cell_reads_the_file_of_its_switches():
    study = get_study("alignment")
    for name, on in CELLS.items():
        data = study[name].data.dataset
        assert data in WORLD
        assert DATASETS[data].files == ("_".join(("instructions", *on)) + ".jsonl",)
