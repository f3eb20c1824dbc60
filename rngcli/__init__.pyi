# What type checkers see of the package: at run time, the names of `api` are loaded when they are first asked for.
from .api import Denoiser as Denoiser
from .api import Outcome as Outcome
from .api import Settings as Settings
from .api import denoise as denoise
from .api import denoise_folder as denoise_folder
from .errors import EnvironmentFault as EnvironmentFault
from .errors import ModelError as ModelError
from .errors import NoInputError as NoInputError
from .errors import PictureError as PictureError
from .errors import RngError as RngError
from .errors import UsageError as UsageError

__version__: str
