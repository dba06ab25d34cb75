"""Region features of a post's own image."""
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from mmgraph.data import Post
from mmgraph.datasets.features import FeatureBank

__all__ = ['RegionFeatures']


@functional_transform('region_features')
class RegionFeatures(BaseTransform):  # type: ignore[misc]
    r"""Gives a post the features of the regions of its image: the store
    :obj:`region` with :obj:`x [r, D]` (functional name:
    :obj:`region_features`). A post without image gets no row.

    The image is looked up by :obj:`post_id`. As :obj:`transform` of a data set
    it reads what a batch needs; as :obj:`pre_transform` it would copy all
    features into the cache.

    Args:
        bank (FeatureBank): The features, *e.g.*
            :class:`~mmgraph.datasets.FeatureFile`.
        allow_missing (bool, optional): Treat a post whose image is not in the
            bank as a post without image, instead of refusing it.
            (default: :obj:`False`)

    Raises:
        InputError: If there are no features of a post's image.

    Example:
        >>> from mmgraph.datasets import StandInFeatures, SyntheticPosts
        >>> bank = StandInFeatures(num_regions=4, channels=8)
        >>> dataset = SyntheticPosts(num_posts=2,
        ...                          transform=RegionFeatures(bank))
        >>> dataset[0]['region'].x.shape
        torch.Size([4, 8])
    """
    def __init__(self, bank: FeatureBank, allow_missing: bool = False) -> None:
        self.bank = bank
        self.allow_missing = allow_missing

    def forward(self, data: Post) -> Post:
        ids = [data.post_id] if data['image'].num_nodes else []
        if self.allow_missing:
            ids = [image_id for image_id in ids if image_id in self.bank]
        x = self.bank(ids).flatten(0, 1)
        data['region'].num_nodes = x.size(0)
        data['region'].x = x
        return data

    def __repr__(self) -> str:
        return (f'{type(self).__name__}({self.bank!r}, '
                f'allow_missing={self.allow_missing})')
