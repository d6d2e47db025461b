// Builds GraphiQL into `build/`, which is not committed: `make graphiql`.
import { defineConfig } from "vite";

export default defineConfig({
  base: "/graphiql/",
  build: { outDir: "build", emptyOutDir: true, chunkSizeWarningLimit: 3000, reportCompressedSize: false },
});
