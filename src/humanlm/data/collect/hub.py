"""Files of data sets on the Hugging Face Hub."""

from pathlib import Path

from humanlm.errors import UsageError


def hub_file(dataset: str, name: str) -> Path:
    """Downloads one file, or finds it in the Hub's cache.

    Raises:
        UsageError: There is no such file, or no way to it.
    """
    from huggingface_hub import hf_hub_download

    with _Said(dataset, name):
        return Path(hf_hub_download(dataset, name, repo_type="dataset"))


def hub_folder(dataset: str, pattern: str) -> Path:
    """Downloads all files of a data set that match, or finds them in the cache.

    Raises:
        UsageError: There is no such data set, or no way to it.
    """
    from huggingface_hub import snapshot_download

    with _Said(dataset, pattern):
        return Path(snapshot_download(dataset, repo_type="dataset", allow_patterns=[pattern]))


class _Said:
    def __init__(self, dataset: str, name: str) -> None:
        self.dataset, self.name = dataset, name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        if isinstance(error, HfHubHTTPError | HFValidationError | LocalEntryNotFoundError | OSError):
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            raise UsageError(
                f"{self.dataset}: the Hub gave no {self.name} ({reason}): check the name, the network and HF_TOKEN"
            ) from error
