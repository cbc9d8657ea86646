"""What the exit code of `ei` means: one table, for every command and every error."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from elastic_inference import errors


class ExitCode(IntEnum):
    """How a command ended; `meaning` is what help and documents say."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> ExitCode:
        """Make a member that is its number and carries its meaning."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        return member

    OK = 0, "done"
    FAILED = 1, "internal: a fault of this program or machine, or the model's own computation failed"
    BAD_INPUT = 2, "wrong usage or bad input, such as an unknown option or a file that is not a model"
    REFUSED = 3, "refused by capacity: no room, a quota or a queue is full; ask for less, or retry later"
    NO_RIGHTS = 4, "no right: the token is missing, wrong or not enough, or the system denies access"
    UNREACHABLE = 5, "unreachable: no connection, a broken one, or no answer in time; a retry is safe"
    NOT_FOUND = 6, "not found: no accelerator, tenant, model, price or file of that name"
    TARGET_NOT_MET = (
        7,
        "done, but the target is not met: nothing is fast enough or priced, or two runs disagree",
    )
    INTERRUPTED = 130, "interrupted by Ctrl-C or SIGTERM"
    READER_GONE = 141, "whoever read the output closed it early, as `head` does"


OF_ERROR: Mapping[type[errors.ElasticInferenceError], ExitCode] = {
    errors.ElasticInferenceError: ExitCode.FAILED,
    errors.InvalidInput: ExitCode.BAD_INPUT,
    errors.InvalidType: ExitCode.BAD_INPUT,
    errors.InvalidRange: ExitCode.BAD_INPUT,
    errors.InternalError: ExitCode.BAD_INPUT,  # TensorFlow's name for a string input that holds no string
    errors.SignatureNotFound: ExitCode.BAD_INPUT,
    errors.PredictorClosed: ExitCode.BAD_INPUT,
    errors.PriceMissing: ExitCode.NOT_FOUND,
    errors.NameTaken: ExitCode.BAD_INPUT,
    errors.TensorNotFound: ExitCode.BAD_INPUT,
    errors.TagsNotFound: ExitCode.BAD_INPUT,
    errors.ModelNotFound: ExitCode.NOT_FOUND,
    errors.InvalidModel: ExitCode.BAD_INPUT,
    errors.UnsupportedModel: ExitCode.BAD_INPUT,
    errors.NotAsWritten: ExitCode.BAD_INPUT,
    errors.UnsafeModel: ExitCode.NO_RIGHTS,
    errors.ModelNotReady: ExitCode.UNREACHABLE,
    errors.EngineNotAvailable: ExitCode.BAD_INPUT,
    errors.ModelError: ExitCode.FAILED,
    errors.DeviceLost: ExitCode.FAILED,
    errors.InvalidArgumentError: ExitCode.BAD_INPUT,
    errors.AcceleratorNotFound: ExitCode.NOT_FOUND,
    errors.CapacityExceeded: ExitCode.REFUSED,
    errors.TenantNotFound: ExitCode.NOT_FOUND,
    errors.TenantQuotaExceeded: ExitCode.REFUSED,
    errors.BudgetReached: ExitCode.REFUSED,
    errors.MemoryQuotaExceeded: ExitCode.REFUSED,
    errors.ComputeQuotaExceeded: ExitCode.REFUSED,
    errors.Fenced: ExitCode.REFUSED,
    errors.AcceleratorBusy: ExitCode.REFUSED,
    errors.StartFailed: ExitCode.FAILED,
    errors.LimitError: ExitCode.FAILED,
    errors.PermissionDenied: ExitCode.NO_RIGHTS,
    errors.Forbidden: ExitCode.NO_RIGHTS,
    errors.DeadlineExceeded: ExitCode.UNREACHABLE,
    errors.RequestCancelled: ExitCode.FAILED,
    errors.TransportError: ExitCode.UNREACHABLE,
    errors.ConnectError: ExitCode.UNREACHABLE,
    errors.ConnectionLost: ExitCode.UNREACHABLE,
    errors.ProtocolError: ExitCode.UNREACHABLE,
    errors.HttpError: ExitCode.UNREACHABLE,
    errors.Http2Error: ExitCode.UNREACHABLE,
}


def exit_code_of(error: BaseException) -> ExitCode:
    """Say with which code a command ends that an error has stopped."""
    if isinstance(error, errors.InvalidInput) and isinstance(error.__cause__, FileNotFoundError):
        return ExitCode.NOT_FOUND
    for kind in type(error).__mro__:
        if kind in OF_ERROR:
            return OF_ERROR[kind]
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ExitCode.NOT_FOUND
    if isinstance(error, PermissionError):
        return ExitCode.NO_RIGHTS
    return ExitCode.FAILED


def describe_exit_codes() -> str:
    """List all codes with their meanings, one a line."""
    return "\n".join(f"{code.value:>5}  {code.meaning}" for code in ExitCode)
