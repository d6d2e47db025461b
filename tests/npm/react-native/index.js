// What an app imports of the guides.
import { AppRegistry } from "react-native";
import { connectApp } from "./native.js";
import { send } from "./send";

AppRegistry.registerRunnable("Darkroom", () => [connectApp, send]);
