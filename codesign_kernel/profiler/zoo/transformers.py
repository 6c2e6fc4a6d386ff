"""Encoders and decoders of one kind of block: ViT, BERT, GPT-2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codesign_kernel.profiler.zoo.vision import named


class Attention(nn.Module):
    """Multi-head self-attention; query, key and value come from one projection (fused) or from three."""

    def __init__(self, width: int, heads: int, causal: bool, fused: bool = True) -> None:
        super().__init__()
        self.heads, self.causal, self.fused = heads, causal, fused
        if fused:
            self.qkv = nn.Linear(width, 3 * width)
        else:
            self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        if self.fused:
            q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = (p(x).view(n, t, self.heads, -1).transpose(1, 2) for p in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(n, t, d))


class TransformerBlock(nn.Module):
    """Attention and a four times wider GELU network, each with a shortcut; normalised before (ViT, GPT) or after."""

    def __init__(
        self, width: int, heads: int, norm_first: bool, causal: bool, eps: float, approximate: str, fused: bool
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.ln1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads, causal, fused)
        self.ln2 = nn.LayerNorm(width, eps)
        self.mlp = named(up=nn.Linear(width, 4 * width), gelu=nn.GELU(approximate), down=nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            x = x + self.attn(self.ln1(x))
            return x + self.mlp(self.ln2(x))
        x = self.ln1(x + self.attn(x))
        return self.ln2(x + self.mlp(x))


def _blocks(
    norm_first: bool = True, causal: bool = False, eps: float = 1e-5, approximate: str = "none", fused: bool = True
) -> nn.Module:
    return nn.Sequential(*(TransformerBlock(768, 12, norm_first, causal, eps, approximate, fused) for _ in range(12)))


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2020, ViT-B/16 on 224 x 224: 86,567,656 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 768, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, 768))
        self.position = nn.Parameter(torch.zeros(1, 197, 768))
        self.blocks = _blocks(eps=1e-6)
        self.ln = nn.LayerNorm(768, 1e-6)
        self.head = nn.Linear(768, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.ln(self.blocks(x))[:, 0])


class Bert(nn.Module):
    """Devlin et al. 2018, base, encoder with pooler: 109,482,240 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30522, 768)
        self.positions = nn.Embedding(512, 768)
        self.segments = nn.Embedding(2, 768)
        self.ln = nn.LayerNorm(768, 1e-12)
        self.blocks = _blocks(norm_first=False, eps=1e-12, fused=False)
        self.pooler = nn.Linear(768, 768)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.words(ids) + self.positions(places) + self.segments(torch.zeros_like(ids))
        x = self.blocks(self.ln(x))
        return x, torch.tanh(self.pooler(x[:, 0]))


class Gpt2(nn.Module):
    """Radford et al. 2019, small; the head is the embedding: 124,439,808 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50257, 768)
        self.positions = nn.Embedding(1024, 768)
        self.blocks = _blocks(causal=True, approximate="tanh")
        self.ln = nn.LayerNorm(768)
        self.head = nn.Linear(768, 50257, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        return self.head(self.ln(self.blocks(self.words(ids) + self.positions(places))))
