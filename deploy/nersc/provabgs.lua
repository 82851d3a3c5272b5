-- Environment module (Lmod) of provabgs. Save as FOLDER/provabgs.lua, set the two paths, and
--     module use FOLDER && module load provabgs
help([[provabgs: posteriors of galaxy properties from DESI spectra. `provabgs --help`]])
whatis("Name: provabgs")

-- a virtual environment or conda environment with `pip install 'provabgs[hpc]'`
local environment = os.getenv("PROVABGS_ENVIRONMENT") or "/global/common/software/desi/provabgs"
local scratch = os.getenv("SCRATCH") or os.getenv("TMPDIR") or "/tmp"

prepend_path("PATH", pathJoin(environment, "bin"))
setenv("PROVABGS_MODULES", myFileName():match("(.*)/") or ".")
-- compiled functions, shared by all processes: `provabgs cluster warmup` fills it once
setenv("PROVABGS_COMPILATION_CACHE", pathJoin(scratch, "provabgs-jax"))
-- one thread a fit process: the processes share the node
setenv("OMP_NUM_THREADS", "1")
setenv("OPENBLAS_NUM_THREADS", "1")
setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
setenv("MPLBACKEND", "Agg")
