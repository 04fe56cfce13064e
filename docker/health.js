// The container's health check: does the process answer? (Readiness is for the orchestrator to check.)
const { PORT = '8080' } = process.env;
fetch(`http://127.0.0.1:${PORT}/health/live`, { signal: AbortSignal.timeout(4000) }).then(
  ({ ok }) => process.exit(ok ? 0 : 1),
  () => process.exit(1),
);
