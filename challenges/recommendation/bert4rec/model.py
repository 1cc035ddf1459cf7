"""BERT4Rec, and SASRec with cross-entropy as its causal variant.

Papers: Sun et al. 2019 (arXiv:1904.06690); Kang and McAuley 2018 (arXiv:1808.09781), with cross-entropy over the whole
catalogue as in Klenitskiy and Vasilev 2023 (arXiv:2309.07602).
Deviations: positions are counted from the end of a history, so that a short one is read as the end of a long one;
attention probabilities are not dropped, which keeps attention fused; layers begin with a deviation of 1 / sqrt(width)
instead of 0.02, BERT's value for 768, with which 32 and 64 wide networks learn nothing but popularity for long (on the
demo data after 30 epochs NDCG@10 .176 instead of .110); the causal variant has BERT4Rec's blocks (normalised after each
part, GELU) instead of SASRec's, and an output bias.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from challenges.recommendation.histories.embedding_rows import rows_of
from common.training.linear import Linear, linear

EMBEDDING_DEVIATION = 0.02  # BERT's


class SequenceTransformer(nn.Module):
    """What a reader of a history expects at each of its positions.

    Items are 0 to num_items - 1, `mask_item` stands for a hidden one, negative numbers for an empty position.

    length: most positions.
    causal: every position sees itself and what came before (SASRec) instead of everything (BERT4Rec).
    """

    def __init__(
        self,
        *,
        num_items: int,
        length: int,
        width: int = 64,
        num_layers: int = 2,
        num_heads: int = 2,
        feedforward: int = 256,
        dropout: float = 0.2,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.num_items, self.length, self.causal = num_items, length, causal
        self.mask_item, self._empty = num_items, num_items + 1
        self.item = nn.Embedding(num_items + 2, width)
        self.position = nn.Parameter(torch.empty(length, width))
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, num_heads, feedforward, dropout) for _ in range(num_layers))
        self.head = nn.Identity() if causal else nn.Sequential(Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(num_items))
        _draw(self.position, EMBEDDING_DEVIATION)
        self.apply(_initialise)

    @property
    def item_weights(self) -> Tensor:
        """(item, width): the embeddings, which are the output layer's weights too."""
        return self.item.weight[: self.num_items]

    def forward(self, items: Tensor, last: int | None = None) -> Tensor:
        """States at every position, or at so many of the last ones.

        items:   (batch, position) int64, right-aligned: the last column is the latest; at most `length` columns.
        returns: (batch, position or last, width)
        """
        filled = items >= 0
        states = (
            rows_of(self.item.weight, torch.where(filled, items, self._empty))
            + self.position[self.length - items.shape[1] :]
        )
        states = self.dropout(self.norm(states))
        visible = filled[:, None, None, :]  # (batch, head, query, key)
        if self.causal:
            before = torch.ones(items.shape[1], items.shape[1], dtype=torch.bool, device=items.device).tril()
            itself = torch.eye(items.shape[1], dtype=torch.bool, device=items.device)
            visible = (visible & before) | itself
        *earlier, final = self.blocks
        for block in earlier:
            states = block(states, visible)
        encoded: Tensor = final(states, visible, last)
        return encoded

    def logits(self, states: Tensor) -> Tensor:
        """(..., width) states -> (..., item) unnormalised log-probabilities."""
        return linear(self.head(states), self.item_weights, self.bias)

    def next_item_logits(self, history: Tensor) -> Tensor:
        """What comes after histories: (batch, any width) int64, negative where empty -> (batch, item)."""
        known = self.length if self.causal else self.length - 1
        items = right_aligned(history, known, self.num_items)
        if not self.causal:
            items = functional.pad(items, (0, 1), value=self.mask_item)
        return self.logits(self(items, last=1)[:, 0])


class Block(nn.Module):
    """Self-attention and a feed-forward part, each added to its input and then normalised.

    states:  (batch, position, width)
    visible: bool, broadcastable to (batch, head, query, key)
    last:    answer at so many of the last positions only
    """

    def __init__(self, width: int, num_heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.project = Linear(width, 3 * width)  # queries, keys, values
        self.merge = Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.expand = Linear(width, feedforward)
        self.contract = Linear(feedforward, width)
        self.output_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, states: Tensor, visible: Tensor, last: int | None = None) -> Tensor:
        heads = self.project(states).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if heads.device.type == "cpu":
            heads = heads.float()  # the CPU's backward pass in bfloat16 takes five times as long (26 and 5 ms)
        with torch.autocast(heads.device.type, enabled=False):
            query, key, value = heads.unbind()
            if last is not None:
                query, visible = query[..., -last:, :], visible[..., -last:, :]
                # not by a slice: ONNX Runtime 1.31 cannot load one between quantised layers
                positions = torch.arange(states.shape[1] - last, states.shape[1], device=states.device)
                states = states.index_select(1, positions)
            attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        attended = self.merge(attended.transpose(1, 2).flatten(2))
        states = self.attention_norm(states + self.dropout(attended))
        inner = functional.gelu(self.expand(states))
        normalised: Tensor = self.output_norm(states + self.dropout(self.contract(inner)))
        return normalised


class Dropout(nn.Module):
    """Dropout whose random bits on a CPU cost a quarter of torch's: eight bytes of every random number are used.

    The probability is rounded to 1/256 there, and what remains is scaled for exactly that.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return values
        if values.device.type != "cpu":
            return functional.dropout(values, self.probability)
        dropped = round(256 * self.probability)
        numbers = torch.empty(-(-values.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = numbers.view(torch.uint8)[: values.numel()].view(values.shape) >= dropped
        return values * kept.to(values.dtype).mul_(256 / (256 - dropped))


def right_aligned(history: Tensor, width: int, num_items: int) -> Tensor:
    """The last `width` items of each row, moved to the right; whatever is no item of the catalogue is left out.

    history: (batch, any width) int64 with empty places anywhere.
    returns: (batch, width) int64, -1 where empty.
    """
    filled = (history >= 0) & (history < num_items)
    from_end = filled.sum(1, keepdim=True) - filled.to(torch.int64).cumsum(1)
    slot = torch.where(filled & (from_end < width), width - 1 - from_end, width)  # what is left out meets in one slot
    return history.new_full((history.shape[0], width + 1), -1).scatter(1, slot, history)[:, :width]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        _draw(module.weight, EMBEDDING_DEVIATION)
    if isinstance(module, nn.Linear):
        _draw(module.weight, module.in_features**-0.5)
        nn.init.zeros_(module.bias)


def _draw(weight: Tensor, deviation: float) -> None:
    """Fill with a normal distribution that is cut off at two deviations."""
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
