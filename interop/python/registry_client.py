"""Confluent's client of schema registries: asks the registry at a URL, and prints what it answers, a line for each question.

    registry_client.py URL common    questions that every registry with Confluent's API answers alike
    registry_client.py URL confluent those that need more of it: modes, contexts, GUIDs, metadata, associations
    registry_client.py URL protobuf  the serializer of Protobuf, which registers descriptors in base64

Ids differ between registries, so they are printed as names in the order in which they were seen: id1, id2.
"""

import base64
import sys

from confluent_kafka.schema_registry import (
    ConfigCompatibilityLevel,
    Metadata,
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    ServerConfig,
)
from confluent_kafka.schema_registry.common.schema_registry_client import (
    AssociationCreateOrUpdateInfo,
    AssociationCreateOrUpdateRequest,
    MetadataProperties,
)
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ORDER = (
    '{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"}]}'
)
ORDER_2 = (
    '{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"long"},'
    '{"name":"note","type":["null","string"],"default":null}]}'
)
BROKEN = (
    '{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"}]}'
)
CUSTOMER = (
    '{"type":"record","name":"Customer","namespace":"shop",'
    '"fields":[{"name":"name","type":"string"}]}'
)
SALE = (
    '{"type":"record","name":"Sale","namespace":"shop",'
    '"fields":[{"name":"to","type":"shop.Customer"}]}'
)

IDS = {}


def name(schema_id):
    return IDS.setdefault(schema_id, f"id{len(IDS) + 1}")


def ask(what, question):
    """Prints what a question is answered, or the code of the refusal."""
    try:
        answer = question()
    except SchemaRegistryError as error:
        answer = f"refused {error.http_status_code} {error.error_code}"
    print(f"{what}\t{answer}", flush=True)
    return answer


def registered(answer):
    return f"{answer.subject} {answer.version} {name(answer.schema_id)} {answer.schema.schema_str}"


def common(url):
    client = SchemaRegistryClient({"url": url, "max.retries": 0})

    def fresh():
        """What the client remembers is not asked for."""
        return SchemaRegistryClient({"url": url, "max.retries": 0})

    subject = "python/of orders-value"
    avro = Schema(ORDER, "AVRO")
    ask("latest of none", lambda: client.get_latest_version(subject))
    ask("versions of none", lambda: client.get_versions(subject))
    ask("id of none", lambda: client.get_schema(999999))
    ask("delete of none", lambda: client.delete_subject(subject))
    ask("register", lambda: name(client.register_schema(subject, avro)))
    ask("register again", lambda: name(fresh().register_schema(subject, avro)))
    ask("register second", lambda: name(client.register_schema(subject, Schema(ORDER_2, "AVRO"))))
    ask("register elsewhere", lambda: name(client.register_schema("python-other", avro)))
    ask("invalid", lambda: client.register_schema(subject, Schema('{"type":', "AVRO")))
    ask("latest", lambda: registered(fresh().get_latest_version(subject)))
    ask("first", lambda: registered(fresh().get_version(subject, 1)))
    ask("third", lambda: registered(fresh().get_version(subject, 3)))
    ask("versions", lambda: client.get_versions(subject))
    ask("subjects", lambda: subject in client.get_subjects())
    known = next(schema_id for schema_id, named in IDS.items() if named == "id1")
    ask("by id", lambda: fresh().get_schema(known).schema_str)
    ask("subjects of id", lambda: sorted(client.get_subjects_by_schema_id(known)))
    ask("look up", lambda: registered(fresh().lookup_schema(subject, avro)))
    ask("look up none", lambda: fresh().lookup_schema(subject, Schema(BROKEN, "AVRO")))
    ask("types", lambda: sorted(set(client.get_schema_types()) & {"AVRO", "JSON", "PROTOBUF"}))

    client.set_compatibility(subject, "BACKWARD")
    ask("level", lambda: client.get_compatibility(subject))
    ask("compatible", lambda: client.test_compatibility(subject, Schema(ORDER_2, "AVRO")))
    ask("incompatible", lambda: client.test_compatibility(subject, Schema(BROKEN, "AVRO")))
    ask("incompatible with all", lambda: client.test_compatibility_all_versions(subject, Schema(BROKEN, "AVRO")))
    ask("register incompatible", lambda: client.register_schema(subject, Schema(BROKEN, "AVRO")))
    client.set_compatibility(subject, "NONE")
    ask("register all the same", lambda: name(client.register_schema(subject, Schema(BROKEN, "AVRO"))))

    client.register_schema("python-customer", Schema(CUSTOMER, "AVRO"))
    sale = Schema(SALE, "AVRO", [SchemaReference("shop.Customer", "python-customer", 1)])
    ask("register with reference", lambda: name(client.register_schema("python-sale", sale)))
    found = fresh().get_latest_version("python-sale").schema
    ask("reference", lambda: [(one.name, one.subject, one.version) for one in found.references])
    ask("referenced by", lambda: [name(one) for one in client.get_referenced_by("python-customer", 1)])

    ask("delete version", lambda: client.delete_version(subject, 1))
    ask("versions after", lambda: client.get_versions(subject))
    ask("delete for good too early", lambda: fresh().delete_subject(subject, permanent=True))
    ask("delete subject", lambda: sorted(client.delete_subject(subject)))
    ask("delete for good", lambda: sorted(client.delete_subject(subject, permanent=True)))
    ask("versions at last", lambda: fresh().get_versions(subject))


def confluent(url):
    client = SchemaRegistryClient({"url": url, "max.retries": 0})
    first = client.register_schema_full_response("more-value", Schema('"string"', "AVRO"))
    ask("guid", lambda: first.guid)
    ask("by guid", lambda: client.get_schema_by_guid(first.guid).schema_str)
    ask("global mode", client.get_global_mode)
    ask("own mode", lambda: client.get_mode("more-value"))
    ask("set mode", lambda: client.update_mode("more-value", "READONLY"))
    ask("register read only", lambda: client.register_schema("more-value", Schema('"int"', "AVRO")))
    ask("delete mode", lambda: client.delete_mode("more-value"))
    ask("import too late", lambda: client.update_mode("more-value", "IMPORT"))
    ask("level by default", lambda: client.get_compatibility())
    config = ServerConfig(compatibility=ConfigCompatibilityLevel.FULL, compatibility_group="major")
    ask("set config", lambda: client.set_config("more-value", config)["compatibilityGroup"])
    ask("get config", lambda: client.get_config("more-value").compatibility_level)
    ask("delete config", lambda: client.delete_config("more-value").compatibility_group)
    ask("config of none", lambda: client.get_config("more-value"))
    owned = Schema('"string"', "AVRO", [], Metadata(None, MetadataProperties({"owner": "x"}), None))
    ask("register metadata", lambda: client.register_schema_full_response("more-value", owned).version)
    ask("latest with metadata", lambda: client.get_latest_with_metadata("more-value", {"owner": "x"}).version)
    ask("latest with other", lambda: client.get_latest_with_metadata("more-value", {"owner": "y"}))
    ask("register in context", lambda: client.register_schema(":.eu:more-value", Schema('"long"', "AVRO")))
    ask("contexts", client.get_contexts)
    ask("subjects of context", lambda: client.get_subjects(":.eu:"))
    ask("versions of id", lambda: [(one.subject, one.version) for one in client.get_schema_versions(1)])
    client.delete_version("more-value", 1)
    ask("with deleted", lambda: client.get_versions("more-value", deleted=True))
    info = AssociationCreateOrUpdateInfo(
        subject="more-value", association_type="value", lifecycle="WEAK", frozen=False, schema=None, normalize=None
    )
    request = AssociationCreateOrUpdateRequest(
        resource_name="more", resource_namespace="lkc", resource_id="topic-1", resource_type="topic", associations=[info]
    )
    ask("associate", lambda: [one.subject for one in client.create_association(request).associations])
    ask("associations", lambda: [one.subject for one in client.get_associations_by_resource_name("more", "lkc", "topic", ["value"])])
    ask("dissociate", lambda: client.delete_associations("topic-1"))
    ask("associations after", lambda: client.get_associations_by_resource_name("more", "lkc", "topic", ["value"]))


def protobuf(url):
    field = descriptor_pb2.FieldDescriptorProto
    money = descriptor_pb2.FileDescriptorProto(name="money.proto", package="common", syntax="proto3")
    money.message_type.add(name="Money").field.add(
        name="cents", number=1, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL
    )
    shop = descriptor_pb2.FileDescriptorProto(
        name="shop.proto", package="shop", syntax="proto3", dependency=["money.proto"]
    )
    shop.message_type.add(name="Order").field.add(
        name="price", number=1, type=field.TYPE_MESSAGE, type_name=".common.Money", label=field.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(money)
    pool.Add(shop)
    order = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))
    client = SchemaRegistryClient({"url": url, "max.retries": 0})
    context = SerializationContext("pb", MessageField.VALUE)
    value = order()
    value.price.cents = 7
    written = ProtobufSerializer(order, client)(value, context)
    ask("written", lambda: written[5:].hex())
    client = SchemaRegistryClient({"url": url, "max.retries": 0})
    ask("read", lambda: ProtobufDeserializer(order, {}, client)(written, context).price.cents)
    ask("subjects", client.get_subjects)
    client = SchemaRegistryClient({"url": url, "max.retries": 0})
    ask("text", lambda: " ".join(client.get_version("pb-value", 1).schema.schema_str.split()))
    client = SchemaRegistryClient({"url": url, "max.retries": 0})
    serialized = client.get_version("pb-value", 1, fmt="serialized").schema.schema_str
    file = descriptor_pb2.FileDescriptorProto.FromString(base64.standard_b64decode(serialized))
    ask("serialized", lambda: f"{file.package} {file.message_type[0].name} {file.dependency[0]}")


if __name__ == "__main__":
    {"common": common, "confluent": confluent, "protobuf": protobuf}[sys.argv[2]](sys.argv[1])
