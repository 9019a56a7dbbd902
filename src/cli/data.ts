import { type Command, type Terminal, UsageError } from "./command.js";
import { DATA_CHECK_HELP, dataCheck } from "./data_check.js";
import { DATA_PREPARE_HELP, dataPrepare } from "./data_prepare.js";

const HINT = "lacuna data --help lists what it does";

export const dataCommand: Command = {
  name: "data",
  summary: "check a folder of tiles or one image; prepare tiles from archives",
  help: `${DATA_CHECK_HELP}

${DATA_PREPARE_HELP}`,
  async run(args: readonly string[], terminal: Terminal) {
    const [name, ...rest] = args;
    if (name === "check") return dataCheck(rest, terminal);
    if (name === "prepare") return dataPrepare(rest, terminal);
    throw new UsageError(name === undefined ? "data needs check or prepare" : `data cannot "${name}"`, HINT);
  },
};
