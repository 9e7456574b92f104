"""The verbs that share models and indexes through the Hugging Face Hub: push and pull."""

from pathlib import Path

import click

from colbert_video.base.wording import counted
from colbert_video.cli.options import FOLDER, json_option, print_report, print_result

revision_option = click.option("--revision", help="Branch of the repository. Default: its main branch.")


@click.command()
@click.argument("repository")
@click.option("--index", "index_path", type=FOLDER, help="Push this index, to a dataset repository.")
@click.option("--model", help="Push this model, by any of its names, to a model repository.")
@click.option("--public", is_flag=True, help="Make a new repository public. Default: private.")
@click.option("--keep-paths", is_flag=True, help="Push the paths of an index's video files too.")
@click.option("--message", help="The commit's message.")
@revision_option
@json_option
def push(
    repository: str,
    index_path: Path | None,
    model: str | None,
    public: bool,
    keep_paths: bool,
    message: str | None,
    revision: str | None,
    as_json: bool,
) -> None:
    """Push an index or a model to the Hugging Face Hub, as REPOSITORY (user/name).

    Log in first with `hf auth login`, or set HF_TOKEN. The repository is made if it is missing.
    """
    _check_one(index_path, model)
    if index_path is not None:
        from colbert_video.indexing.indexer import Indexer

        commit = Indexer(index_path).push_to_hub(
            repository, private=not public, keep_paths=keep_paths, revision=revision, message=message
        )
    else:
        from colbert_video.model.video_colbert import VideoColBERT

        loaded = VideoColBERT.from_pretrained(str(model), device="cpu")
        commit = loaded.push_to_hub(repository, private=not public, revision=revision, message=message)
    print_result({"repository": repository, "commit": commit} if as_json else f"pushed: {commit}")


@click.command()
@click.argument("repository")
@click.option("--index", "index_path", type=FOLDER, help="Fetch an index into this new folder.")
@click.option("--model", "model_path", type=FOLDER, help="Fetch a model into this folder.")
@revision_option
@json_option
def pull(
    repository: str, index_path: Path | None, model_path: Path | None, revision: str | None, as_json: bool
) -> None:
    """Fetch an index or a model from REPOSITORY (user/name) on the Hugging Face Hub, and check every file of it."""
    _check_one(index_path, model_path)
    from colbert_video.durable import check_folder_writable

    if index_path is not None:
        from colbert_video.hub import HubRepository
        from colbert_video.indexing.upkeep.index_hub import pull_index

        report = pull_index(HubRepository(repository, "dataset", revision), index_path)
        print_report(report, f"{report.path}: {counted(report.videos, 'video')}", as_json=as_json)
        return
    from colbert_video.model.video_colbert import VideoColBERT

    if model_path is not None:
        check_folder_writable(model_path.absolute())  # before gigabytes are fetched
    VideoColBERT.from_hub(repository, revision=revision, device="cpu").save_pretrained(str(model_path))
    print_result({"path": str(model_path)} if as_json else f"{model_path}: the model of {repository}")


def _check_one(index: object, model: object) -> None:
    if (index is None) == (model is None):
        raise click.UsageError("give either --index or --model.")
