"""Layers of our own against PyTorch's."""

import pytest
import torch
from torch.func import vmap

from stillhouse.models import layers


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 7, 5), (1, 2, 5, 6), (1, 1, 2, 3), (1, 1, 4, 66)])
def test_average_pooling_is_the_mean_of_2_x_2_pixels_and_leaves_out_what_is_odd(shape: tuple[int, ...]) -> None:
    images = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found, wanted = layers.AveragePooling()(images), torch.nn.functional.avg_pool2d(images, 2)
    torch.testing.assert_close(found, wanted)
    slopes = [torch.autograd.grad(each.square().sum(), images)[0] for each in (found, wanted)]
    torch.testing.assert_close(*slopes)


def test_average_pooling_is_differentiable_twice() -> None:
    images = torch.randn(1, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: layers.AveragePooling()(x).square(), [images])


def test_average_pooling_goes_through_vmap_and_other_layouts() -> None:
    images = torch.randn(3, 2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    pooled = layers.AveragePooling()
    torch.testing.assert_close(vmap(pooled)(images), pooled(images))
    last = images[0].contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(pooled(last), pooled(images[0]))


def test_average_pooling_in_bfloat16_stays_there() -> None:
    images = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    found = layers.AveragePooling()(images.to(torch.bfloat16))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), torch.nn.functional.avg_pool2d(images, 2), rtol=0.02, atol=0.02)
