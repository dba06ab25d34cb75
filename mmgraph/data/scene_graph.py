"""An image as a graph of its objects."""
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from mmgraph.data.validation import (
    Report,
    check_boxes,
    check_edges,
    check_finite,
    check_rows,
)
from mmgraph.typing import OptTensor

__all__ = ['SceneGraph']


class SceneGraph(Data):
    r"""The detected objects of one image, joined by predicates, subject →
    object.

    Built by :meth:`build`, which fills in what every scene graph has; the
    optional attributes are those a detector gave. Objects without features
    are allowed, and so are images without objects.

    Args:
        edge_index (torch.Tensor): Relations :obj:`[2, E]`, int64.
        edge_type (torch.Tensor): Predicate ids :obj:`[E]`, int64.
        slot_id (torch.Tensor): The rank of each object in the detector's own
            list, :obj:`[m]`, int64.
        x (torch.Tensor, optional): Object features :obj:`[m, F]`.
        box (torch.Tensor, optional): :obj:`[m, 4]`, x1 y1 x2 y2 as fractions
            of the image in :math:`[0, 1]`.
        label_id (torch.Tensor, optional): Object classes :obj:`[m]`, int64.
        score (torch.Tensor, optional): Detection scores :obj:`[m]` in
            :math:`[0, 1]`.
        edge_score (torch.Tensor, optional): Predicate scores :obj:`[E]`.

    Example:
        >>> SceneGraph.build(torch.tensor([[0, 0], [1, 2]]), num_objects=3)
        SceneGraph(3 objects, 2 relations)
    """
    @classmethod
    def build(
        cls,
        edge_index: Tensor,
        num_objects: int,
        edge_type: OptTensor = None,
        slot_id: OptTensor = None,
        x: OptTensor = None,
        box: OptTensor = None,
        label_id: OptTensor = None,
        score: OptTensor = None,
        edge_score: OptTensor = None,
    ) -> 'SceneGraph':
        r"""Fills in predicate id 0 and slots :math:`0 \ldots m - 1` where they
        are not given, and leaves out the optional attributes that are
        :obj:`None`.
        """
        if edge_type is None:
            edge_type = edge_index.new_zeros(edge_index.size(1))
        if slot_id is None:
            slot_id = torch.arange(num_objects)
        optional = dict(x=x, box=box, label_id=label_id, score=score,
                        edge_score=edge_score)
        return cls(edge_index=edge_index, edge_type=edge_type,
                   slot_id=slot_id, num_nodes=num_objects,
                   **{k: v for k, v in optional.items() if v is not None})

    @classmethod
    def empty(cls, like: 'SceneGraph | None' = None) -> 'SceneGraph':
        r"""An image without objects, with the attributes of :obj:`like`, so
        that both can stand in one data set.
        """
        graph = cls.build(torch.empty(2, 0, dtype=torch.long), 0)
        if like is not None:
            for key, value in like.items():
                if isinstance(value, Tensor) and key not in graph:
                    graph[key] = value[:0]
        return graph

    def validate(self, raise_on_error: bool = True) -> bool:
        r"""Checks the graph's own rules; see :meth:`Post.validate`."""
        report = Report(self)
        m = int(self.num_nodes or 0)
        check_edges(report, self, m, m)
        check_boxes(report, self)
        check_rows(report, self, m)
        check_finite(report, self)
        return report.close(raise_on_error)

    def __repr__(self) -> str:
        if isinstance(self, Batch) or 'slot_id' not in self:
            return super().__repr__()
        return (f'{type(self).__name__}({self.num_nodes} objects, '
                f'{self.num_edges} relations)')
