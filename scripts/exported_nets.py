"""Networks that `exporters.py` exports: four small ones written here, and published ones of timm, all with random weights.

The four are what the runtime was written against. Those of timm are as their authors wrote them; none was looked at while kernels, passes
or readers were made, and what first failed on one of them is told in docs/measurements/exporters.md.
"""

import numpy
import timm
import torch
from timm.layers import use_fused_attn
from torch import nn

SIDE, CLASSES = 64, 10


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if use_fused_attn():
            x = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            x = torch.softmax(q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5, -1) @ v
        return self.out(x.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    def __init__(self, width, heads, activation=nn.GELU):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), activation(), nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, width=96, heads=3, depth=3, patch=16):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.positions = nn.Parameter(torch.randn(1, (SIDE // patch) ** 2 + 1, width) * 0.1)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Cct(nn.Module):
    """Convolutions make the tokens, a weighted mean joins them (Hassani et al., 2021)."""

    def __init__(self, width=64, heads=2, depth=2):
        super().__init__()
        convolution = lambda a, b: [nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        self.tokens = nn.Sequential(*convolution(3, 32), *convolution(32, width))
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm, self.pool, self.head = nn.LayerNorm(width), nn.Linear(width, 1), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.norm(self.blocks(self.tokens(x).flatten(2).transpose(1, 2)))
        share = torch.softmax(self.pool(x), 1)
        return self.head((share.transpose(-1, -2) @ x).squeeze(-2))


class Mobile(nn.Module):
    """Depthwise convolutions and attention across patches of a feature map (Mehta and Rastegari, 2021)."""

    def __init__(self, width=32, heads=2):
        super().__init__()
        def inverted(a, b, stride):
            return nn.Sequential(
                nn.Conv2d(a, 2 * a, 1, bias=False), nn.BatchNorm2d(2 * a), nn.SiLU(),
                nn.Conv2d(2 * a, 2 * a, 3, stride, 1, groups=2 * a, bias=False), nn.BatchNorm2d(2 * a), nn.Hardswish(),
                nn.Conv2d(2 * a, b, 1, bias=False), nn.BatchNorm2d(b))
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.GroupNorm(4, 16), nn.SiLU())
        self.stages = nn.Sequential(inverted(16, 24, 2), inverted(24, width, 2))
        self.blocks, self.norm = nn.Sequential(Block(width, heads, nn.SiLU)), nn.LayerNorm(width)
        self.join, self.head = nn.Conv2d(2 * width, width, 3, padding=1), nn.Linear(width, CLASSES)

    def forward(self, x):
        x = self.stages(self.stem(x))
        batch, width, height, columns = x.shape
        parts = x.reshape(batch * width * height // 2, 2, columns // 2, 2).transpose(1, 2)
        parts = parts.reshape(batch, width, height * columns // 4, 4).permute(0, 3, 2, 1)
        parts = self.norm(self.blocks(parts.reshape(batch * 4, height * columns // 4, width)))
        parts = parts.reshape(batch, 4, height * columns // 4, width).permute(0, 3, 2, 1)
        parts = parts.reshape(batch * width * height // 2, columns // 2, 2, 2).transpose(1, 2)
        x = self.join(torch.cat([x, parts.reshape(batch, width, height, columns)], 1))
        x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Residual(nn.Module):
    def __init__(self, widths=(16, 32, 64)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.paths, self.shortcuts, before = nn.ModuleList(), nn.ModuleList(), 16
        for width in widths:
            stride = 1 if width == before else 2
            self.paths.append(nn.Sequential(
                nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)))
            same = nn.Identity() if stride == 1 else nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            self.shortcuts.append(same)
            before = width
        self.head = nn.Linear(before, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        for path, shortcut in zip(self.paths, self.shortcuts):
            x = torch.relu(path(x) + shortcut(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


# Name in timm, side of the image, and further settings.
PUBLISHED = {
    "deit": ("deit_tiny_patch16_224", 224, {}),
    "deit96": ("deit_tiny_patch16_224", 96, {"img_size": 96}),
    "resnet18": ("resnet18", 96, {}),
    "mobilevit": ("mobilevit_xxs", 128, {}),
    "convnext": ("convnext_atto", 96, {}),
    "swin": ("swin_tiny_patch4_window7_224", 112, {"img_size": 112, "embed_dim": 48, "depths": (2, 2, 2), "num_heads": (2, 4, 8)}),
    "efficientnet": ("efficientnet_b0", 96, {}),
    "edgenext": ("edgenext_xx_small", 128, {}),
    "xcit": ("xcit_nano_12_p16_224", 96, {"img_size": 96}),
    "mixer": ("mixer_s32_224", 96, {"img_size": 96}),
}
OWN = {"vit": Vit, "cct": Cct, "mobile": Mobile, "residual": Residual}


def side(name):
    return SIDE if name in OWN else PUBLISHED[name][1]


def network(name, images):
    """A network whose scores on `images` are spread: else random weights name one class for every image."""
    torch.manual_seed(7)
    if name in OWN:
        net = OWN[name]()
        head = net.head
    else:
        kind, _, settings = PUBLISHED[name]
        net = timm.create_model(kind, pretrained=False, num_classes=CLASSES, exportable=True, **settings)
        head = net.get_classifier()
    images = torch.from_numpy(numpy.concatenate(images))
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    if name in PUBLISHED and norms:
        # The statistics of the images themselves: with made-up ones a deep network's features hardly differ from image to image, and
        # spreading its scores would multiply every rounding by a thousand.
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        net.train()
        with torch.no_grad():
            net(images)
    net.eval()
    with torch.no_grad():
        scores = net(images)
        mean, spread = scores.mean(0), scores.std(0)
        head.weight /= spread[:, None]
        head.bias.copy_((head.bias - mean) / spread)
    return net
