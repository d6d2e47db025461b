/** Every operation that the studio sends. `tests/studio` holds them valid for `schema.graphql`. */
import { graphql, type FragmentOf, type ResultOf, type VariablesOf } from "./graphql";

export const ImageFields = graphql(`
  fragment ImageFields on Image {
    id
    width
    height
    origin
    prompt
    thumbhash
    favourite
    createdAt
    contentType
    byteSize
    url
    small: url(width: 512)
    large: url(width: 1024)
    model {
      id
      label
    }
  }
`);
export type ImageData = FragmentOf<typeof ImageFields>;

export const ModelFields = graphql(`
  fragment ModelFields on ImageModel {
    id
    label
    company
    description
    provider
    available
    unavailableReason
    isNew
    isDefault
    listed
    scenes
    minReferences
    maxReferences
    maxImages
    aspectRatios
    resolutions
    qualities
    supportsMentions
    supportsPreviews
    editModel {
      id
    }
    replacement {
      id
      label
    }
    fromText: creditsPerImage(scene: TEXT_TO_IMAGE)
    fromImages: creditsPerImage(scene: IMAGE_TO_IMAGE)
  }
`);
export type ModelData = FragmentOf<typeof ModelFields>;

const ReferenceFields = graphql(
  `
    fragment ReferenceFields on Reference {
      origin
      image {
        ...ImageFields
      }
    }
  `,
  [ImageFields],
);
export type ReferenceData = FragmentOf<typeof ReferenceFields>;

const OutputFields = graphql(
  `
    fragment OutputFields on Output {
      id
      status
      attempt
      progress
      queuePosition
      text
      requestedModelId
      creditsCharged
      chosen
      model {
        id
        label
      }
      preview {
        index
        url
      }
      images {
        ...ImageFields
      }
      error {
        code
        message
        retryable
      }
    }
  `,
  [ImageFields],
);
export type OutputData = FragmentOf<typeof OutputFields>;

const TurnFields = graphql(
  `
    fragment TurnFields on Turn {
      id
      turnIndex
      status
      userMessage
      aspectRatio
      resolution
      createdAt
      updatedAt
      options {
        imagesPerModel
        quality
      }
      error {
        code
        message
      }
      selectedModels {
        id
      }
      references {
        ...ReferenceFields
      }
      outputs {
        ...OutputFields
      }
    }
  `,
  [ReferenceFields, OutputFields],
);
export type TurnData = FragmentOf<typeof TurnFields>;

export const ViewerFields = graphql(`
  fragment ViewerFields on Viewer {
    id
    credits {
      available
      reserved
    }
    limits {
      activeOutputs
      maxActiveOutputs
      maxModels
      maxManualReferences
      maxPromptLength
      maxUploadBytes
    }
  }
`);
export type ViewerData = FragmentOf<typeof ViewerFields>;

export const Models = graphql(
  `
    query Models {
      models(includeUnlisted: true) {
        ...ModelFields
      }
    }
  `,
  [ModelFields],
);

export const Gallery = graphql(
  `
    query Gallery($first: Int!, $after: String, $favourite: Boolean, $origin: ImageOrigin) {
      viewer {
        images(first: $first, after: $after, favourite: $favourite, origin: $origin) {
          nodes {
            ...ImageFields
          }
          pageInfo {
            endCursor
            hasNextPage
          }
        }
      }
    }
  `,
  [ImageFields],
);

export const ImagesById = graphql(
  `
    query ImagesById($ids: [ID!]!) {
      nodes(ids: $ids) {
        __typename
        ...ImageFields
      }
    }
  `,
  [ImageFields],
);

export const ImageDetails = graphql(
  `
    query ImageDetails($id: ID!) {
      image(id: $id) {
        ...ImageFields
        turn {
          id
          conversation {
            id
            title
          }
        }
        madeFrom {
          ...ImageFields
        }
      }
    }
  `,
  [ImageFields],
);

export const Conversations = graphql(
  `
    query Conversations($first: Int!, $after: String, $search: String, $sourceImageId: ID) {
      viewer {
        conversations(first: $first, after: $after, search: $search, sourceImageId: $sourceImageId) {
          nodes {
            id
            title
            turnCount
            updatedAt
            sourceImage {
              ...ImageFields
            }
            latestTurn {
              id
              status
              outputs {
                id
                image {
                  ...ImageFields
                }
              }
            }
          }
          pageInfo {
            endCursor
            hasNextPage
          }
        }
      }
    }
  `,
  [ImageFields],
);
export type ConversationCard = ResultOf<typeof Conversations>["viewer"]["conversations"]["nodes"][number];

const ConversationFields = graphql(
  `
    fragment ConversationFields on Conversation {
      id
      title
      turnCount
      aspectRatio
      resolution
      sourceImage {
        ...ImageFields
      }
    }
  `,
  [ImageFields],
);
export type ConversationData = FragmentOf<typeof ConversationFields>;

export const ConversationPage = graphql(
  `
    query ConversationPage($id: ID!, $last: Int!, $before: String) {
      conversation(id: $id) {
        ...ConversationFields
        cursor
        turns(last: $last, before: $before) {
          nodes {
            ...TurnFields
          }
          pageInfo {
            startCursor
            hasPreviousPage
          }
        }
      }
    }
  `,
  [ConversationFields, TurnFields],
);

export const ConversationImages = graphql(
  `
    query ConversationImages($id: ID!, $after: String) {
      conversation(id: $id) {
        id
        images(first: 100, after: $after) {
          nodes {
            ...ImageFields
          }
          pageInfo {
            endCursor
            hasNextPage
          }
        }
      }
    }
  `,
  [ImageFields],
);

const ShareFields = graphql(`
  fragment ShareFields on Share {
    id
    url
    expiresAt
    includesPrompts
    views
    conversation {
      id
    }
  }
`);
export type ShareData = FragmentOf<typeof ShareFields>;

export const Shares = graphql(
  `
    query Shares {
      viewer {
        shares {
          ...ShareFields
        }
      }
    }
  `,
  [ShareFields],
);

export const CreateShare = graphql(
  `
    mutation CreateShare($input: CreateShareInput!) {
      createShare(input: $input) {
        share {
          ...ShareFields
        }
        userErrors {
          code
          message
          path
        }
      }
    }
  `,
  [ShareFields],
);

export const RevokeShare = graphql(`
  mutation RevokeShare($input: RevokeShareInput!) {
    revokeShare(input: $input) {
      revokedShareId
      userErrors {
        code
        message
        path
      }
    }
  }
`);

export const SharedPage = graphql(
  `
    query SharedPage($token: String!, $first: Int!, $after: String) {
      shared(token: $token) {
        title
        expiresAt
        turns(first: $first, after: $after) {
          nodes {
            ...TurnFields
          }
          pageInfo {
            endCursor
            hasNextPage
          }
        }
      }
    }
  `,
  [TurnFields],
);

export const Prompts = graphql(`
  query Prompts($search: String) {
    viewer {
      prompts(first: 8, search: $search) {
        nodes {
          id
          text
        }
      }
    }
  }
`);

export const Plan = graphql(
  `
    query Plan($input: PlanTurnInput!) {
      planTurn(input: $input) {
        credits
        models {
          requestedModelId
          model {
            id
            label
          }
          droppedReferences {
            image {
              id
            }
          }
        }
        references {
          ...ReferenceFields
        }
        userErrors {
          code
          message
          path
        }
      }
    }
  `,
  [ReferenceFields],
);
export type PlanInput = VariablesOf<typeof Plan>["input"];
export type PlanData = ResultOf<typeof Plan>["planTurn"];
export type UserErrorData = PlanData["userErrors"][number];

export const Start = graphql(`
  mutation Start($input: StartConversationInput!) {
    startConversation(input: $input) {
      conversation {
        id
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);
export type StartInput = VariablesOf<typeof Start>["input"];

export const Send = graphql(
  `
    mutation Send($input: SendEditInput!) {
      sendEdit(input: $input) {
        turn {
          ...TurnFields
        }
        userErrors {
          code
          message
          path
        }
      }
    }
  `,
  [TurnFields],
);
export type SendInput = VariablesOf<typeof Send>["input"];

export const Retry = graphql(
  `
    mutation Retry($input: RetryOutputInput!) {
      retryOutput(input: $input) {
        turn {
          ...TurnFields
        }
        userErrors {
          code
          message
          path
        }
      }
    }
  `,
  [TurnFields],
);

export const CancelOutput = graphql(
  `
    mutation CancelOutput($input: CancelOutputInput!) {
      cancelOutput(input: $input) {
        turn {
          ...TurnFields
        }
        userErrors {
          code
          message
          path
        }
      }
    }
  `,
  [TurnFields],
);

export const CancelTurn = graphql(
  `
    mutation CancelTurn($input: CancelTurnInput!) {
      cancelTurn(input: $input) {
        turn {
          ...TurnFields
        }
        userErrors {
          code
          message
          path
        }
      }
    }
  `,
  [TurnFields],
);

export const Choose = graphql(
  `
    mutation Choose($input: ChooseOutputInput!) {
      chooseOutput(input: $input) {
        turn {
          ...TurnFields
        }
        userErrors {
          code
          message
          path
        }
      }
    }
  `,
  [TurnFields],
);

export const Rename = graphql(`
  mutation Rename($input: RenameConversationInput!) {
    renameConversation(input: $input) {
      conversation {
        id
        title
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

export const DeleteConversation = graphql(`
  mutation DeleteConversation($input: DeleteConversationInput!) {
    deleteConversation(input: $input) {
      deletedConversationId
      userErrors {
        code
        message
        path
      }
    }
  }
`);

export const DeleteImage = graphql(`
  mutation DeleteImage($input: DeleteImageInput!) {
    deleteImage(input: $input) {
      deletedImageId
      userErrors {
        code
        message
        path
      }
    }
  }
`);

export const SetFavourite = graphql(`
  mutation SetFavourite($input: SetFavouriteInput!) {
    setFavourite(input: $input) {
      image {
        id
        favourite
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

export const CreateUploads = graphql(`
  mutation CreateUploads($input: CreateUploadsInput!) {
    createUploads(input: $input) {
      uploads {
        id
        url
        headers {
          name
          value
        }
      }
      userErrors {
        code
        message
        path
      }
    }
  }
`);

export const CompleteUpload = graphql(
  `
    mutation CompleteUpload($input: CompleteUploadInput!) {
      completeUpload(input: $input) {
        image {
          ...ImageFields
        }
        userErrors {
          code
          message
          path
        }
      }
    }
  `,
  [ImageFields],
);

export const TurnUpdated = graphql(
  `
    subscription TurnUpdated($id: ID!, $after: String) {
      turnUpdated(conversationId: $id, after: $after) {
        cursor
        turn {
          ...TurnFields
        }
      }
    }
  `,
  [TurnFields],
);

export const SharedTurnUpdated = graphql(
  `
    subscription SharedTurnUpdated($token: String!, $after: String) {
      sharedTurnUpdated(token: $token, after: $after) {
        cursor
        turn {
          ...TurnFields
        }
      }
    }
  `,
  [TurnFields],
);

export const ConversationUpdated = graphql(`
  subscription ConversationUpdated($id: ID!) {
    conversationUpdated(conversationId: $id) {
      id
      title
      turnCount
    }
  }
`);

export const ViewerUpdated = graphql(
  `
    subscription ViewerUpdated {
      viewerUpdated {
        ...ViewerFields
      }
    }
  `,
  [ViewerFields],
);
