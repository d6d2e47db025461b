/** Every operation that the studio sends, as `clients/operations` has them, and the names of what they answer. */
import type * as Types from "../../../clients/operations/generated/types";

export * from "../../../clients/operations/generated/albums";
export * from "../../../clients/operations/generated/conversations";
export * from "../../../clients/operations/generated/data";
export * from "../../../clients/operations/generated/images";
export * from "../../../clients/operations/generated/models";
export * from "../../../clients/operations/generated/outputs";
export * from "../../../clients/operations/generated/posts";
export * from "../../../clients/operations/generated/shares";
export * from "../../../clients/operations/generated/turns";
export * from "../../../clients/operations/generated/uploads";
export * from "../../../clients/operations/generated/viewer";
export type { Operation } from "../../../clients/operations/generated/operation";

export type ImageData = Types.ImageFieldsFragment;
export type ModelData = Types.ModelFieldsFragment;
export type ReferenceData = Types.ReferenceFieldsFragment;
export type OutputData = Types.OutputFieldsFragment;
export type TurnData = Types.TurnFieldsFragment;
export type ViewerData = Types.ViewerFieldsFragment;
export type ConversationData = Types.ConversationFieldsFragment;
export type ConversationCard = Types.ConversationsQuery["viewer"]["conversations"]["nodes"][number];
export type ShareData = Types.ShareFieldsFragment;
export type PlanInput = Types.PlanTurnInput;
export type PlanData = Types.PlanQuery["planTurn"];
export type UserErrorData = Types.UserErrorFieldsFragment;
export type StartInput = Types.StartConversationInput;
export type SendInput = Types.SendEditInput;
export type PostData = Types.PostFieldsFragment;
export type PostCard = Types.PostCardFieldsFragment;
export type CaptionModelData = Types.CaptionModelsQuery["captionModels"][number];
export type GeneratePostInput = Types.GeneratePostInput;
export type AlbumCard = Types.AlbumCardFieldsFragment;
export type ExportData = Types.ExportFieldsFragment;
export type ImportData = Types.ImportFieldsFragment;
export type DeletedData = Types.DeletedConversationsQuery["viewer"]["deletedConversations"][number];
export type ModelStatsData = Types.StatisticsQuery["viewer"]["modelStats"][number];
