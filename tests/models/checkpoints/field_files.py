"""Files as they lie on people's disks: one small generator, saved in many ways, by way and by what must come of it.

Every entry writes a file or folder, and says whose numbers are to come out: those of the network that was trained last
(`RAW`), those of its average (`AVERAGE`), or a sentence that the refusal has.
"""

import gzip
import io
import pathlib
import zipfile

import numpy as np
import torch
from torch import nn

from tests.models.checkpoints.field_networks import (
    AVERAGE,
    GAN,
    LISTED,
    OBJECTS,
    OPTIMIZER,
    OPTIONS,
    PARAMETERS,
    RAW,
    SIGMOID,
    SPECTRAL_NEW,
    SPECTRAL_OLD,
    WEIGHT_NEW,
    WEIGHT_OLD,
    WIDE_EPS,
    Config,
    D,
    Discriminator,
    E,
    G,
    Generator,
    Shadow,
    Write,
    below,
    both,
    damaged,
    in_folder,
    pickled,
    ready,
    saved,
    scripted,
    sharded,
    tensors,
    text,
    unpacked,
    wrapped,
)

# name: (how it is written, whose numbers come out, or what the refusal says)
READ: dict[str, tuple[Write, nn.Module]] = {}
REFUSED: dict[str, tuple[Write, str]] = {}


def _averages() -> dict[str, tuple[Write, nn.Module]]:
    """Two copies of one network."""
    names = (
        *("netG_EMA", "ema", "g_ema", "model_ema", "state_dict_ema", "generator_ema", "ema_generator", "G_avg", "avgG"),
        *("averaged_model", "swa_model", "G_shadow", "generator_smooth", "g_running", "Gs", "emaG", "params_ema"),
        *("EMA_G", "polyak", "gen_ema_state", "moving_average", "generator_test"),
    )
    found = {f"two copies, {name}": (saved({"netG": G, name: E, "netD": D}), AVERAGE) for name in names}
    listed = {"decay": 0.999, "num_updates": 7, "shadow_params": LISTED, "collected_params": None}
    lightning = {
        "state_dict": both(),
        "callbacks": {
            "EMA": {
                "ema_weights": [*LISTED, *(value for key, value in D.items() if value.ndim and "running" not in key)]
            }
        },
    }
    return found | {
        "an average with a number": (saved({"G": G, "G_ema1": E}), AVERAGE),
        "an average of the critic only": (saved({"G": G, "D": D, "D_ema": D}), RAW),
        "average first": (saved({"ema": E, "model": G}), AVERAGE),
        "an average with everything": (saved({"ema": {"G": E, "D": D}, "model": {"G": G, "D": D}}), AVERAGE),
        "averaged model": (saved({"G": G, "G_swa": {"n_averaged": torch.tensor(3), **below("module.", E)}}), AVERAGE),
        "averaged model, silent": (
            saved({"one": G, "two": {"n_averaged": torch.tensor(3), **below("module.", E)}}),
            AVERAGE,
        ),
        "shadow dict": (saved({"netG": G, "ema": {"decay": 0.99, "shadow": PARAMETERS}}), AVERAGE),
        "shadow dict with prefix": (saved({"netG": G, "ema": {"shadow": below("module.", PARAMETERS)}}), AVERAGE),
        "shadow object": (saved({"netG": G, "netD": D, "ema": Shadow(PARAMETERS)}), AVERAGE),
        "shadow list": (saved({"netG": G, "ema": listed}), AVERAGE),
        "shadow list beside the raw one": (
            saved({"netG": G, "ema": {**listed, "collected_params": [G[key] for key in PARAMETERS]}}),
            AVERAGE,
        ),
        "shadow list in lists": (saved([G, D, {"ema": listed}]), AVERAGE),
        "fastgan's list": (saved({"g": below("module.", G), "d": D, "g_ema": LISTED}), AVERAGE),
        "ema_pytorch": (
            saved(
                {
                    **below("online_model.", G),
                    **below("ema_model.", E),
                    "initted": torch.tensor([True]),
                    "step": torch.tensor([3]),
                }
            ),
            AVERAGE,
        ),
        "ema_pytorch in a file": (
            saved(
                {
                    "gan": both(),
                    "ema": {**below("ema_model.", E), "initted": torch.tensor(True), "step": torch.tensor(3)},
                }
            ),
            AVERAGE,
        ),
        "prefixes, safetensors": (tensors({**below("netG.", G), **below("netG_ema.", E)}), AVERAGE),
        "mmagic": (saved({"meta": {"iter": 1}, "state_dict": {**both(), **below("generator_ema.", E)}}), AVERAGE),
        "lightning's weight averaging": (
            saved(
                {
                    "state_dict": both(state=E),
                    "current_model_state": both(),
                    "averaging_state": {"n_averaged": torch.tensor(3)},
                }
            ),
            AVERAGE,
        ),
        "lightning's swa callback": (
            saved(
                {
                    "state_dict": both(),
                    "callbacks": {"StochasticWeightAveraging": {"n_averaged": 3, "average_model_state": both(state=E)}},
                }
            ),
            AVERAGE,
        ),
        "a callback's state dict": (
            saved({"state_dict": both(), "callbacks": {"EMACallback{}": {"ema_state_dict": both(state=E)}}}),
            AVERAGE,
        ),
        "a callback's list of everything": (saved(lightning), AVERAGE),
        "a list of everything, a generator of two names": (
            saved({**lightning, "state_dict": {**both(), **below("netG.", G)}}),
            AVERAGE,
        ),
        "names without dots": (
            saved(
                {
                    "state_dict": {
                        **both(),
                        **below("model_ema.", {key.replace(".", ""): value for key, value in PARAMETERS.items()}),
                        "model_ema.decay": torch.tensor(0.9),
                    }
                }
            ),
            AVERAGE,
        ),
        "equal copies": (saved({"netG": G, "best": {key: value.clone() for key, value in G.items()}}), RAW),
        "one dict under two names": (saved({"netG": G, "best": G}), RAW),
        "pickled whole": (saved({"G": RAW, "G_ema": AVERAGE}), AVERAGE),
        "an AveragedModel, pickled": (saved({"G": RAW, "swa": torch.optim.swa_utils.AveragedModel(AVERAGE)}), AVERAGE),
    }


def _prefixes() -> dict[str, tuple[Write, nn.Module]]:
    """Anything before the generator's keys."""
    names = (
        *("generator.", "netG.", "net_g.", "model.", "module.", "_orig_mod.", "model.generator.", "gan.G."),
        *("module.generator.", "generator.module.", "_orig_mod.netG.", "netG._orig_mod.module.", "pl_module.netG."),
        *("module.module.", "gan.model.net.generator.", "G.model.", "_forward_module.G.", "whatever.", "a.b.c.d.e."),
    )
    found: dict[str, tuple[Write, nn.Module]] = {}
    for number, name in enumerate(names):
        write = (saved, tensors)[number % 2]
        found[f"prefix {name}"] = (write(below(name, G)), RAW)
        if "orig" not in name and not name.startswith("module."):
            found[f"prefix {name} with a critic"] = (write({**below(name, G), **below("netD.", D)}), RAW)
    return found | {
        "compiled in the middle": (
            saved({key.replace("main.", "main._orig_mod."): value for key, value in G.items()}),
            RAW,
        ),
        "parallel in the middle": (
            saved({key.replace("main.", "main.module."): value for key, value in G.items()}),
            RAW,
        ),
        "counted by thop": (
            saved(
                {
                    **G,
                    "total_ops": torch.zeros(1),
                    "main.total_ops": torch.zeros(1),
                    "main.0.total_params": torch.zeros(1),
                }
            ),
            RAW,
        ),
        "with a number beside": (
            saved({**below("netG.", G), "step": torch.tensor(3), "fixed_noise": torch.zeros(4, 5)}),
            RAW,
        ),
        "lightning": (
            saved(
                {
                    "epoch": 9,
                    "state_dict": both(),
                    "hyper_parameters": OPTIONS,
                    "optimizer_states": [OPTIMIZER, OPTIMIZER],
                }
            ),
            RAW,
        ),
        "lightning, own names": (saved({"state_dict": both("net_G.", "net_D."), "loops": {"fit": {"a": 1}}}), RAW),
        "lightning with a loss network": (
            saved({"state_dict": {**both("G.", "D."), "vgg.features.0.weight": torch.zeros(4, 3, 3, 3)}}),
            RAW,
        ),
    }


def _containers() -> dict[str, tuple[Write, nn.Module]]:
    """Whatever is around the state dict."""
    return {
        "net_g and net_d": (saved({"net_g": G, "net_d": D, "iter": 5}), RAW),
        "tuple": (saved((G, {"epoch": 3})), RAW),
        "list": (saved([D, G, OPTIMIZER]), RAW),
        "list of pairs": (saved(list(G.items())), RAW),
        "list, legacy": (saved([D, G], _use_new_zipfile_serialization=False), RAW),
        "keys that are numbers": (saved({0: D, 1: G, 2: OPTIMIZER}), RAW),
        "training state": (
            saved({"models": {"G": {"net": G, "opt": OPTIMIZER}, "D": {"net": D, "opt": OPTIMIZER}}, "it": 3}),
            RAW,
        ),
        "numbers and None in it": (saved({**G, "epoch": 3, "lr": 0.1, "note": None, "name": "x"}), RAW),
        "dicts in dicts": (saved({"main": {key.removeprefix("main."): value for key, value in G.items()}}), RAW),
        "dicts for layers": (
            saved(
                {
                    "params": {
                        "main": {
                            str(n): {k.rsplit(".", 1)[1]: v for k, v in G.items() if k.startswith(f"main.{n}.")}
                            for n in (0, 1, 3, 4, 6)
                        }
                    }
                }
            ),
            RAW,
        ),
        "numpy arrays": (saved({key: value.numpy() for key, value in G.items()}), RAW),
        "numpy arrays, pickled": (pickled({"weights": {key: value.numpy() for key, value in G.items()}}, 4), RAW),
        **{f"{depth} levels deep": (saved(wrapped(depth, G)), RAW) for depth in (3, 4, 5)},
        "an object's attribute": (saved(Config(netG=G, lr=1)), RAW),
        "an odd word": (saved({"zz_top": G, "counts": [1, 2], "inner": {"nothing": None}}), RAW),
        "optimizer beside": (saved({"optimizer": OPTIMIZER, "gen": G}), RAW),
        "a scheduler and a scaler": (
            saved({"g": G, "scaler": {"scale": 65536.0}, "sched": {"last_epoch": 3, "base_lrs": [0.1]}}),
            RAW,
        ),
    }


def _objects() -> dict[str, tuple[Write, nn.Module]]:
    """Python objects beside the weights, and networks that are objects."""
    found: dict[str, tuple[Write, nn.Module]] = {
        "objects of all kinds": (saved({"netG": G, **OBJECTS}), RAW),
        "objects of all kinds, legacy": (saved({"netG": G, **OBJECTS}, _use_new_zipfile_serialization=False), RAW),
        "own config": (saved({"netG": G, "config": OPTIONS}), RAW),
        "a class": (saved({"netG": G, "kind": Config, "function": len}), RAW),
        "whole module": (saved(RAW), RAW),
        "whole module, legacy": (saved(RAW, _use_new_zipfile_serialization=False), RAW),
        "whole module in a dict": (saved({"epoch": 1, "generator": RAW, "discriminator": ready(Discriminator())}), RAW),
        "whole module in a list": (saved([RAW, 1]), RAW),
        "data parallel": (saved(nn.DataParallel(RAW)), RAW),
        "data parallel, legacy": (saved(nn.DataParallel(RAW), _use_new_zipfile_serialization=False), RAW),
        "both in one module": (saved(GAN), RAW),
        "both in one module, as G": (saved({"model": GAN, "opt": OPTIONS}), RAW),
        "whole with spectral norm": (saved(SPECTRAL_OLD), SPECTRAL_OLD),
        "whole with weight norm": (saved(WEIGHT_OLD), WEIGHT_OLD),
        "whole that ends in a sigmoid": (saved(SIGMOID), SIGMOID),
        "whole with another epsilon": (saved(WIDE_EPS), WIDE_EPS),
        "whole that ends in a sigmoid, parallel": (saved({"g": nn.DataParallel(SIGMOID)}), SIGMOID),
        "torchscript": (scripted(RAW), RAW),
        "torchscript of a sigmoid": (scripted(SIGMOID), SIGMOID),
        "a state dict with parameters": (
            saved(
                {key: nn.Parameter(value, False) if value.is_floating_point() else value for key, value in G.items()}
            ),
            RAW,
        ),
    }
    for protocol in range(2, 6):
        found[f"protocol {protocol}"] = (saved({"G": G, "D": D}, pickle_protocol=protocol), RAW)
        found[f"protocol {protocol}, legacy"] = (
            saved({"G": G, "loss": np.float32(1)}, pickle_protocol=protocol, _use_new_zipfile_serialization=False),
            RAW,
        )
        found[f"whole module, protocol {protocol}"] = (saved(RAW, pickle_protocol=protocol), RAW)
    for protocol in range(6):
        found[f"plain pickle of protocol {protocol}"] = (pickled({"G": dict(G), "args": OPTIONS}, protocol), RAW)
        found[f"plain pickle of a module, protocol {protocol}"] = (pickled(RAW, protocol), RAW)
    return found


def _types() -> dict[str, tuple[Write, nn.Module]]:
    """Types of numbers that lose nothing of what was saved in them, and normalisations."""
    low = {kind: ready(Generator()) for kind in ("half", "bfloat16", "float8_e4m3fn", "float8_e5m2")}
    found: dict[str, tuple[Write, nn.Module]] = {}
    for kind, network in low.items():
        state = {
            key: value.to(getattr(torch, kind)) if value.is_floating_point() else value
            for key, value in network.state_dict().items()
        }
        network.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        )
        found[f"safetensors of {kind}"] = (tensors(state), network)
        found[f"torch file of {kind}"] = (saved({"netG": state}), network)
    double = {key: value.double() if value.is_floating_point() else value.int() for key, value in G.items()}
    attached = {"spectral": SPECTRAL_OLD, "new spectral": SPECTRAL_NEW, "weight": WEIGHT_OLD, "new weight": WEIGHT_NEW}
    for name, network in attached.items():
        found[f"{name} norm"] = (saved(network.state_dict()), network)
        found[f"{name} norm behind a prefix"] = (
            tensors({**below("model.netG.", network.state_dict()), **below("model.netD.", D)}),
            network,
        )
    return found | {"doubles": (saved(double), RAW), "scripted spectral norm": (scripted(SPECTRAL_OLD), SPECTRAL_OLD)}


def _folders() -> dict[str, tuple[Write, nn.Module]]:
    """Folders of runs."""
    one, two, critic = saved(G), saved(E), saved(D)
    snapshot = saved({"state_dict": both()})
    return {
        "junyanz": (
            in_folder(
                {"latest_net_G.pth": one, "5_net_G.pth": two, "latest_net_D.pth": critic, "train_opt.txt": text("x")}
            ),
            RAW,
        ),
        "junyanz without latest": (in_folder({"10_net_G.pth": one, "5_net_G.pth": two, "10_net_D.pth": critic}), RAW),
        "basicsr": (
            in_folder(
                {
                    "models/net_g_latest.pth": saved({"params": G}),
                    "models/net_g_5000.pth": saved({"params": E}),
                    "models/net_d_latest.pth": critic,
                    "training_states/5000.state": saved({"optimizers": [OPTIMIZER]}),
                }
            ),
            RAW,
        ),
        "yunjey": (in_folder({"20000-G.ckpt": one, "10000-G.ckpt": two, "20000-D.ckpt": critic}), RAW),
        "lightning folder": (
            in_folder({"checkpoints/epoch=9-step=100.ckpt": snapshot, "hparams.yaml": text("lr: 1")}),
            RAW,
        ),
        "lightning run": (
            in_folder(
                {
                    "lightning_logs/version_0/checkpoints/last.ckpt": snapshot,
                    "lightning_logs/version_0/hparams.yaml": text("lr: 1"),
                }
            ),
            RAW,
        ),
        "mmagic folder": (
            in_folder(
                {
                    "iter_2000.pth": snapshot,
                    "iter_1000.pth": saved({"state_dict": both(state=E)}),
                    "last_checkpoint": text("iter_2000.pth"),
                }
            ),
            RAW,
        ),
        "accelerate": (
            in_folder(
                {
                    "model.safetensors": tensors(G),
                    "model_1.safetensors": tensors(D),
                    "optimizer.bin": saved(OPTIMIZER),
                    "random_states_0.pkl": pickled({"a": 1}, 4),
                }
            ),
            RAW,
        ),
        "accelerate, bin": (
            in_folder(
                {
                    "pytorch_model.bin": saved(D),
                    "pytorch_model_1.bin": saved(G),
                    "scheduler.bin": saved({"last_epoch": 1}),
                }
            ),
            RAW,
        ),
        "hugging face": (
            in_folder({"model.safetensors": tensors(G), "config.json": text("{}"), "README.md": text("x")}),
            RAW,
        ),
        "hugging face, bin": (in_folder({"pytorch_model.bin": one, "config.json": text("{}")}), RAW),
        "hugging face, part": (
            in_folder({"generator/diffusion_pytorch_model.safetensors": tensors(G), "model_index.json": text("{}")}),
            RAW,
        ),
        "average in its own file": (
            in_folder({"netG_epoch5.pt": one, "netG_ema_epoch5.pt": two, "netD_epoch5.pt": critic}),
            AVERAGE,
        ),
        "one file": (in_folder({"weights.pth": one, "notes.txt": text("x")}), RAW),
        "shards": (sharded(G, "model", "safetensors"), RAW),
        "shards of bin": (sharded(both(), "pytorch_model", "bin"), RAW),
        "shards with a prefix": (sharded(below("netG.", G), "diffusion_pytorch_model", "safetensors"), RAW),
        "shards of a snapshot": (
            in_folder({"checkpoint-500": sharded(G, "model", "safetensors"), "a.txt": text("x")}),
            RAW,
        ),
        "unpacked": (unpacked({"netG": G, "netD": D}), RAW),
        "unpacked one deeper": (in_folder({"archive": unpacked(G)}), RAW),
    }


def _refused() -> dict[str, tuple[Write, str]]:
    """What is refused, and what is said."""
    quantised = {key: value.to(torch.int8) if value.ndim > 1 else value for key, value in G.items()}
    without = {key: value for key, value in G.items() if key != "main.1.running_mean"}
    missing = {key: value for key, value in G.items() if "running" not in key}
    sequence = {key.removeprefix("main."): value for key, value in G.items()}
    other = {**G, "main.1.gamma": torch.ones(8)}
    return {
        "two generators": (
            saved({"netG_A": G, "netG_B": E}),
            r"2 copies of one network: netG_A .dcgan., netG_B .dcgan.; say which with --key",
        ),
        "student and teacher": (
            saved({**below("student.", G), **below("teacher.", E)}),
            r"holds 2 copies of one network: student .dcgan., teacher .dcgan.; say which with --key",
        ),
        "two averages": (
            saved({"g": G, "ema_0999": E, "ema_09999": {k: v * 2 for k, v in E.items()}}),
            "ema_0999 .dcgan., ema_09999 .dcgan.; say which with --key",
        ),
        "two generators, lightning": (
            saved({"state_dict": {**below("G_AB.", G), **below("G_BA.", E)}}),
            "state_dict.G_AB .dcgan., state_dict.G_BA",
        ),
        "an average that fits nothing": (saved({"netG": G, "ema": LISTED[:2]}), "ema is a list of 2"),
        "int8": (saved(quantised), "main.0.weight is int8: quantised"),
        "uint32": (
            saved({key: value.abs().to(torch.uint32) if value.ndim > 1 else value for key, value in G.items()}),
            "main.0.weight is uint32: quantised",
        ),
        "int8 in safetensors": (tensors(below("netG.", quantised)), "is int8: quantised"),
        "complex": (
            saved({key: value.to(torch.complex64) if value.ndim > 1 else value for key, value in G.items()}),
            "complex",
        ),
        "a byte in a tensor": (damaged, "damaged"),
        "onnx": (
            lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x93\x01\n0"),
            "an ONNX graph.*model.onnx",
        ),
        "gguf": (lambda path: path.write_bytes(b"GGUF\x03\0\0\0" + bytes(64)), "a GGUF file"),
        "keras": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), "HDF5 file.*Keras.*state_dict"),
        "tflite": (lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(64)), "TensorFlow Lite"),
        "saved model": (
            lambda path: path.write_bytes(b"\x08\x01\x12\xa4\x9f\x04*\x1f\n\x0bAssignVariableOp"),
            "TensorFlow SavedModel",
        ),
        "frozen graph": (
            lambda path: path.write_bytes(b"\n\x16\n\x05input\x12\x0bPlaceholder*\x00" + bytes(64)),
            "frozen TensorFlow graph",
        ),
        "npz": (lambda path: path.write_bytes(_npz()), "NumPy arrays, .npz"),
        "npy": (lambda path: path.write_bytes(b"\x93NUMPY\x01\0" + bytes(64)), "NumPy array"),
        "zip": (lambda path: _zip(path, "netG.pth"), "zip archive that holds 'netG.pth'; unpack"),
        "gzip": (lambda path: path.write_bytes(gzip.compress(b"x" * 99)), "gzip"),
        "7z": (lambda path: path.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(64)), "7z archive"),
        "rar": (lambda path: path.write_bytes(b"Rar!\x1a\x07\x00" + bytes(64)), "RAR archive"),
        "zstd": (lambda path: path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(64)), "Zstandard"),
        "xz": (lambda path: path.write_bytes(b"\xfd7zXZ\x00" + bytes(64)), "xz"),
        "lfs": (text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"), "Git LFS pointer"),
        "text": (text("hello, these are the notes\n"), "a text file"),
        "zeros": (lambda path: path.write_bytes(bytes(5000)), "only zeros"),
        "optimizer": (saved(OPTIMIZER), "an optimizer's state"),
        "optimizer in a dict": (saved({"optimizer": OPTIMIZER}), "an optimizer's state"),
        "frozen torchscript": (scripted(RAW, freeze=True), "TorchScript with its weights frozen"),
        "a folder of nothing": (in_folder({"notes.txt": text("x")}), "no weights"),
        "a folder of two generators": (
            in_folder({"latest_net_G_A.pth": saved(G), "latest_net_G_B.pth": saved(E), "latest_net_D_A.pth": saved(D)}),
            "latest_net_G_A.pth.*latest_net_G_B.pth",
        ),
        "a shard without the index": (
            in_folder({"model-00001-of-00002.safetensors": tensors(G)}),
            r"one of 00002 shards; model\.safetensors\.index\.json is missing",
        ),
        "an index of other shards": (
            sharded(G, "model", "safetensors", besides="main.9.weight"),
            "'main.9.weight' is not in model-00001-of-00002.safetensors",
        ),
        "a missing shard": (sharded(G, "model", "safetensors", missing=True), "model-00002-of-00002.safetensors"),
        "a discriminator": (saved(D), "DCGAN discriminator"),
        "a tensor less": (saved(without), r"like dcgan.*main\.1\.running_mean"),
        "no statistics": (saved(missing), r"like dcgan.*running_mean"),
        "a tensor more": (saved(other), r"dcgan.*main\.1\.gamma"),
        "unknown beside a critic": (saved({"netG": other, "netD": D}), r"dcgan.*main\.1\.gamma"),
        "a known part with layers beside it": (
            saved({"refine.0.weight": torch.zeros(3, 3, 3, 3), **below("model.", sequence)}),
            r"dcgan.*refine",
        ),
        "a known part with an embedding beside it": (
            saved({"embed.weight": torch.zeros(10, 5), **below("net.", sequence)}),
            r"dcgan.*embed",
        ),
        "an unknown network with a known part": (
            saved({"emb.weight": torch.zeros(10, 5), **G}),
            r"like dcgan.*emb\.weight",
        ),
    }


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


def _zip(path: pathlib.Path, name: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"x")


for part in (_averages, _prefixes, _containers, _objects, _types, _folders):
    READ.update(part())
REFUSED.update(_refused())
