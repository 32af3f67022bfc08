"""The choice of tiles for matrix products on CUDA: what fits, what fills the chip, what each chip has."""

from __future__ import annotations

import pytest

from edgec.backends.cuda_tiles import Choice, Product, candidates, choose
from edgec.plan import Gpu
from edgec.targets.load import load_target

PRODUCTS = (
    Product(12544, 64, 147, 2),
    Product(49, 512, 4608, 2),
    Product(197, 3072, 768, 2),
    Product(1, 1000, 2048, 2),
    Product(6272, 512, 4608, 2),
    Product(784, 128, 1152, 4),
    Product(197, 64, 200, 2, 12, rows_of_k=True),
)


def gpu(name: str) -> Gpu:
    found = load_target(name).gpu
    assert found is not None
    return found


def blocks(choice: Choice, product: Product) -> int:
    return choice.tiles(product) * choice.splits * product.batch


@pytest.mark.parametrize("target", ["orin", "orin-nano", "rtx-4090", "h200", "thor"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_a_chosen_tile_fits_the_chip(target: str, product: Product) -> None:
    choice = choose(product, gpu(target))
    assert choice.tile.shared_bytes <= gpu(target).shared_bytes
    assert 1 <= choice.splits <= product.slices
    assert choice.tile.threads <= 1024


def test_clusters_and_warp_groups_are_hoppers_alone() -> None:
    def special(target: str) -> set[bool]:
        return {c.cluster or c.tile.wide for p in PRODUCTS for c in candidates(p, gpu(target))}

    assert [special(t) for t in ("orin", "thor", "h200")] == [{False}, {False}, {False, True}]


def test_a_small_map_with_a_long_sum_is_split_until_it_fills_the_chip() -> None:
    product = Product(49, 512, 4608, 2)
    choice = choose(product, gpu("h200"))
    assert choice.splits >= 4
    assert blocks(choice, product) >= 64


def test_a_large_product_takes_large_tiles() -> None:
    product = Product(6272, 512, 4608, 2)
    choice = choose(product, gpu("h200"))
    assert choice.tile.rows * choice.tile.columns >= 64 * 64
    assert choice.splits == 1


def test_rows_of_k_take_tiles_of_whole_swizzled_rows() -> None:
    product = Product(197, 64, 200, 2, 12, rows_of_k=True)
    assert all(c.tile.columns >= 64 and not c.tile.wide for c in candidates(product, gpu("h200")))
