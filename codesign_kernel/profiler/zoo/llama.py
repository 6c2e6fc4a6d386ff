"""A decoder of the shape of Llama-7B, that reads a prompt (prefill) or adds one token to it (decode)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Touvron et al. 2023 (arXiv 2302.13971), table 2 and section 2.4: the 7B model, trained on 2048 tokens of context.
WIDTH, HEADS, LAYERS, CONTEXT = 4096, 32, 32, 2048
#: Two thirds of 4 x WIDTH, rounded up to a multiple of 256; the tokeniser's vocabulary (both from the released model).
HIDDEN, VOCABULARY = 11008, 32000

Cache = tuple[Tensor, Tensor]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class LlamaAttention(nn.Module):
    """Causal attention with rotary positions; earlier tokens come from the cache, and the new ones are added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        n, t, d = x.shape
        q, k, v = (p(x).view(n, t, HEADS, d // HEADS).transpose(1, 2) for p in (self.q, self.k, self.v))
        q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        if cache is not None:
            k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        return self.out(y.transpose(1, 2).reshape(n, t, d)), (k, v)


class LlamaBlock(nn.Module):
    """Attention and a gated network, each behind an RMS norm and with a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.RMSNorm(WIDTH, 1e-6) for _ in range(2))
        self.attn = LlamaAttention()
        self.gate, self.up = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.silu, self.down = nn.SiLU(), nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        y, cache = self.attn(self.norm1(x), cos, sin, cache)
        x = x + y
        y = self.norm2(x)
        return x + self.down(self.silu(self.gate(y)) * self.up(y)), cache


class Llama(nn.Module):
    """Touvron et al. 2023, 7B: 6,738,415,616 parameters in half precision.

    ``forward(ids [N, T], *caches)``: with keys and values of every layer ([N, HEADS, P, WIDTH / HEADS], key and value
    alternating) the tokens follow P earlier ones; returns the logits and the caches of P + T tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(LlamaBlock() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, 1e-6)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        x = self.words(ids)
        past = caches[0].shape[2] if caches else 0
        places = torch.arange(past, past + ids.shape[1], device=ids.device, dtype=torch.float32)
        half = WIDTH // HEADS // 2
        rates = 10000.0 ** (-torch.arange(half, device=ids.device, dtype=torch.float32) / half)
        angles = torch.outer(places, torch.cat([rates, rates]))
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        grown: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x, pair = block(x, cos, sin, (caches[2 * i], caches[2 * i + 1]) if caches else None)
            grown += pair
        return self.head(self.norm(x)), *grown


def prefill() -> tuple[nn.Module, Tensor]:
    """The network and a prompt that fills the context."""
    return Llama().half(), torch.zeros(1, CONTEXT, dtype=torch.int64)


def decode() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network, the last token of the context, and the caches of those before it."""
    cache = (torch.zeros(1, HEADS, CONTEXT - 1, WIDTH // HEADS, dtype=torch.float16) for _ in range(2 * LAYERS))
    return Llama().half(), (torch.zeros(1, 1, dtype=torch.int64), *cache)
