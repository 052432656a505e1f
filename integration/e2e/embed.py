"""Compute sentence embeddings with a BERT written in numpy.

    embed.py MODEL_DIR

prints the SHA-256 of the embeddings' bytes. The weights are memory-mapped by
safetensors, as inference code maps them. The first embedding is compared with
the figures on the model's card, so that two wrong results cannot agree.
"""

import hashlib
import json
import math
import os
import sys

import numpy as np
from safetensors import safe_open
from tokenizers import Tokenizer

SENTENCES = [
    "This is an example sentence",
    "Each sentence is converted",
    "A man is riding a horse across the prairie.",
    "Someone on horseback crosses the grassland.",
]
CARD = [6.7657e-02, 6.3496e-02, 4.8713e-02]  # first three of SENTENCES[0]

erf = np.vectorize(math.erf, otypes=[np.float64])


def layer_norm(x, weight, bias, eps):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * weight + bias


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gelu(x):
    return (x * 0.5 * (1.0 + erf(x / math.sqrt(2.0)))).astype(x.dtype)


class Bert:
    def __init__(self, folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
            self.config = json.load(f)
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tensors = safe_open(os.path.join(folder, "model.safetensors"), "numpy")

    def tensor(self, name):
        return self.tensors.get_tensor(name)

    def linear(self, x, name):
        return x @ self.tensor(name + ".weight").T + self.tensor(name + ".bias")

    def norm(self, x, name):
        eps = self.config["layer_norm_eps"]
        return layer_norm(x, self.tensor(name + ".weight"), self.tensor(name + ".bias"), eps)

    def attention(self, x, layer):
        heads = self.config["num_attention_heads"]
        n, width = x.shape
        part = width // heads

        def split(y):
            return y.reshape(n, heads, part).transpose(1, 0, 2)

        q, k, v = (
            split(self.linear(x, f"{layer}.attention.self.{which}"))
            for which in ("query", "key", "value")
        )
        scores = softmax(q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(part)))
        mixed = (scores @ v).transpose(1, 0, 2).reshape(n, width)
        out = self.linear(mixed, f"{layer}.attention.output.dense")
        return self.norm(x + out, f"{layer}.attention.output.LayerNorm")

    def embed(self, sentence):
        ids = self.tokenizer.encode(sentence).ids
        x = (
            self.tensor("embeddings.word_embeddings.weight")[ids]
            + self.tensor("embeddings.position_embeddings.weight")[: len(ids)]
            + self.tensor("embeddings.token_type_embeddings.weight")[0]
        )
        x = self.norm(x, "embeddings.LayerNorm")
        for i in range(self.config["num_hidden_layers"]):
            layer = f"encoder.layer.{i}"
            x = self.attention(x, layer)
            inner = gelu(self.linear(x, f"{layer}.intermediate.dense"))
            x = self.norm(x + self.linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        pooled = x.mean(0)
        return (pooled / np.linalg.norm(pooled)).astype(np.float32)


def main():
    bert = Bert(sys.argv[1])
    vectors = np.stack([bert.embed(s) for s in SENTENCES])
    if not np.allclose(vectors[0][:3], CARD, atol=1e-4):
        sys.exit(f"embedding {vectors[0][:3]} is not the model card's {CARD}")
    alike, unlike = vectors[2] @ vectors[3], vectors[0] @ vectors[2]
    if not alike > unlike + 0.2:
        sys.exit(f"similarity of paraphrases is {alike}, of strangers {unlike}")
    print(hashlib.sha256(vectors.tobytes()).hexdigest())


main()
