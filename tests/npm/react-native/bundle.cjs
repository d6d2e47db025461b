// Makes the bundle of an app as React Native's own command does: bundle.cjs PLATFORM FILE
const { loadConfig, runBuild } = require("metro");

const [platform, out] = process.argv.slice(2);

(async () => {
  const config = await loadConfig({ config: `${__dirname}/metro.config.cjs` });
  await runBuild(config, { entry: "index.js", platform, dev: false, minify: false, out });
  process.exit();
})();
