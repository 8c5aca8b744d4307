"""PyInstaller's hook: what it does not see by following imports."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

# The extension imports cffi's module; names of the package are imported on first use.
hiddenimports = ["_cffi_backend", *collect_submodules("pygrad", filter=lambda name: "_pyinstaller" not in name)]
datas = [*collect_data_files("pygrad", includes=["**/*.html"]), *copy_metadata("pygrad-engine")]
