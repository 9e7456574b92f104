"""Packaging: `indexing/` and `training/` install as `colbert_video.indexing` and `colbert_video.training`."""

from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
VERSION = "0.2.0"

# Wheels of faiss-gpu and decord exist for some platforms only; the others get the CPU build of faiss and PyAV alone.
LINUX_X86 = "sys_platform == 'linux' and platform_machine == 'x86_64'"
NOT_LINUX_X86 = "sys_platform != 'linux' or platform_machine != 'x86_64'"
DECORD_PLATFORMS = f"({LINUX_X86}) or (sys_platform == 'win32' and platform_machine == 'AMD64')"

INSTALL_REQUIRES = [
    "av>=17",
    "click>=8.2",
    "colbert-ai>=0.2.22",
    f"decord>=0.6.0; {DECORD_PLATFORMS}",
    f"faiss-cpu>=1.9; {NOT_LINUX_X86}",
    f"faiss-gpu>=1.14.3; {LINUX_X86}",
    "huggingface_hub>=1.3",
    "jaxtyping>=0.2.34",
    "numpy>=1.26",
    "open_clip_torch>=3.3.0",
    "pillow>=10",
    "rich>=14.1",
    "safetensors>=0.4.3",
    "torch>=2.7",
    "torchvision>=0.22",
    "transformers>=5",
    "ujson>=5",
]
TRAIN = ["accelerate>=1.0", "matplotlib>=3.8", "pyyaml>=6", "tensorboard>=2.16"]
SERVE = ["fastapi>=0.162", "prometheus-client>=0.20", "starlette>=1.6", "uvicorn>=0.30"]
MCP = [*SERVE, "mcp>=2.1"]
CLUSTER = ["ray[serve]>=2.60"]
PANDAS = ["pandas>=2"]
DATASETS = ["datasets>=4"]
MTEB = ["mteb>=2.26"]
SENTENCE_TRANSFORMERS = ["sentence-transformers>=6.2"]
ONNX = ["onnx>=1.16", "onnxruntime>=1.20", "onnxscript>=0.5"]
OPENVINO = ["openvino>=2025.0"]
PARQUET = ["pyarrow>=17"]
LANCE = ["lancedb>=0.24", *PARQUET]
QDRANT = ["qdrant-client>=1.16"]
LANGCHAIN = ["langchain-core>=1"]
LLAMA_INDEX = ["llama-index-core>=0.14"]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6", "mkdocstrings[python]>=1.0"]
TEST = [
    *TRAIN,
    *MCP,
    *CLUSTER,
    *PANDAS,
    *DATASETS,
    *LANCE,
    *QDRANT,
    *LANGCHAIN,
    *LLAMA_INDEX,
    "langchain-tests>=1",
    *(f"{one}; python_version >= '3.11'" for one in MTEB),  # it has no release for Python 3.10
    *DOCS,
    "axe-playwright-python>=0.1.4",
    "beartype>=0.19",
    "httpx2>=2",
    "hypothesis>=6.100",
    "ir_measures>=0.3",
    "mypy>=1.15",
    "ninja>=1.11",
    "playwright>=1.48",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "ranx>=0.3.20",
    "ruff>=0.17,<0.18",
    "schemathesis>=4",
    "types-PyYAML",
]

# Fast search on CPUs; without a compiler it is left out, and torch does its work. One build serves every Python.
KERNELS = Extension(
    "colbert_video.indexing.scan._kernels",
    sources=["indexing/scan/_kernels.cpp"],
    depends=["indexing/scan/_kernels_isa.h", "indexing/scan/_kernels_scores.h"],
    define_macros=[("KERNELS_PYTHON_MODULE", "1"), ("Py_LIMITED_API", "0x030A0000")],
    extra_compile_args=["-O3", "-std=c++17", "-fno-math-errno", "-Wno-psabi", "-fvisibility=hidden", "-g0"],
    language="c++",
    py_limited_api=True,
    optional=True,
)


class BuildKernels(build_ext):
    """Leaves the kernels out under Microsoft's compiler, which lacks the vector types they are written with."""

    def build_extension(self, ext: Extension) -> None:
        if self.compiler.compiler_type == "msvc":
            self.warn("the search kernels need GCC or clang: left out, torch does their work")
            return
        super().build_extension(ext)


setup(
    name="colbert_video",
    version=VERSION,
    description="Late-interaction (ColBERT) text-to-video search: words in, moments of video out.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    package_dir={
        "colbert_video": "colbert_video",
        "colbert_video.indexing": "indexing",
        "colbert_video.training": "training",
    },
    packages=[
        "colbert_video",
        # The links colbert_video/indexing and colbert_video/training are for the checkout; the mapping installs them.
        *find_packages(include=["colbert_video.*"], exclude=["colbert_video.indexing*", "colbert_video.training*"]),
        *(f"colbert_video.{name}" for name in find_packages(include=["indexing*", "training*"])),
    ],
    package_data={
        "colbert_video": ["py.typed", "model/checkpoints/*/*", "serve/static/*"],
        "colbert_video.training": ["recipes/*.yaml"],
    },
    ext_modules=[KERNELS],
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
    install_requires=INSTALL_REQUIRES,
    extras_require={
        "train": TRAIN,
        "serve": SERVE,
        "mcp": MCP,
        "cluster": CLUSTER,
        "pandas": PANDAS,
        "datasets": DATASETS,
        "mteb": MTEB,
        "sentence-transformers": SENTENCE_TRANSFORMERS,
        "onnx": ONNX,
        "openvino": OPENVINO,
        "parquet": PARQUET,
        "lance": LANCE,
        "qdrant": QDRANT,
        "langchain": LANGCHAIN,
        "llama-index": LLAMA_INDEX,
        "docs": DOCS,
        "torchcodec": ["torchcodec>=0.13"],
        "test": TEST,
    },
    entry_points={
        "console_scripts": ["colbert-video = colbert_video.cli:main"],
        # Opens a cluster by its address for `Indexer.index(cluster="auto")`; another package may offer its own class.
        "colbert_video.clusters": ["ray = colbert_video.cluster:RayCluster"],
        # Loads an encoder by SCHEME:WHICH; another package may register its own.
        "colbert_video.encoders": ["st = colbert_video.ecosystem.multi_vector:load_by_name"],
    },
)
